"""Small tasks of Inspect in files, local data in the shape of the hub's, and components over them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import suite_samples
from served import ServedSubject

from harness.components.inspect.component import InspectComponent
from harness.components.inspect.config import InspectConfig
from harness.core.chat import ChatAnswer, ChatRequest, Usage
from harness.core.component import Outcome, SilentProgress
from harness.core.defaults import Defaults
from harness.core.endpoint import Endpoint
from harness.engines.scripted.server import ScriptedServer, serving
from harness.engines.scripted.trouble import Trouble

Script = Callable[[ChatRequest], ChatAnswer]
WORDS = '''
import json
from pathlib import Path
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes, model_graded_qa, Score, scorer, accuracy, stderr, mean
from inspect_ai.solver import generate, solver, use_tools
from inspect_ai.tool import tool

HERE = Path(__file__).parent


def samples():
    rows = [json.loads(line) for line in (HERE / "words.jsonl").read_text().splitlines()]
    return [Sample(id=row["id"], input=row["q"], target=row["a"], metadata={"group": row["group"]}) for row in rows]


@task
def words(prefix: str = ""):
    return Task(dataset=samples(), solver=generate(), scorer=includes())


@tool
def shelf():
    async def execute(number: int):
        """Read what is on a shelf.

        Args:
            number: Which shelf.
        """
        return f"word{number}"

    return execute


@task
def tools():
    return Task(dataset=samples(), solver=[use_tools(shelf()), generate()], scorer=includes(), message_limit=12)


@scorer(metrics=[accuracy(), stderr()])
def fussy():
    async def score(state, target):
        if "3" in state.input_text:
            raise ValueError("no number in the answer")
        return Score(value="C" if target.text in state.output.completion else "I")

    return score


@task
def fussily():
    return Task(dataset=samples(), scorer=fussy())


@solver
def broken():
    async def solve(state, generate):
        if "3" in state.input_text:
            raise KeyError("a bug of the task")
        return await generate(state)

    return solve


@task
def breaks():
    return Task(dataset=samples(), solver=broken(), scorer=includes())


@solver
def swallowing():
    async def solve(state, generate):
        try:
            return await generate(state)
        except Exception as error:
            state.output.completion = f"word0 word1 word2 word3 word4 word5 word6 word7 {error}"
            return state

    return solve


@task
def swallows():
    return Task(dataset=samples(), solver=swallowing(), scorer=includes())


@task
def graded():
    return Task(dataset=samples(), scorer=model_graded_qa())


@scorer(metrics=[mean(), stderr()])
def length():
    async def score(state, target):
        return Score(value=len(state.output.completion))

    return score


@task
def lengths():
    return Task(dataset=samples(), scorer=[includes(), length()])
'''
"""A file of tasks: samples are `words.jsonl` beside it."""


def write_words(folder: Path, n: int = 8) -> Path:
    """The file of tasks and its samples, two of which each belong together."""
    rows = [{"id": f"w{i}", "q": f"What is on shelf {i}?", "a": f"word{i}", "group": i // 2} for i in range(n)]
    (folder / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "words.py"
    path.write_text(WORDS)
    return path


def write_arc(folder: Path, n: int = 12) -> dict[str, Any]:
    """Keys of a component over ARC in a local file."""
    (folder / "arc.jsonl").write_text("".join(json.dumps(row) + "\n" for row in suite_samples.arc(n)))
    return {"task": "inspect_evals/arc_challenge", "data": {"allenai/ai2_arc": {"files": {"test": "arc.jsonl"}}}}


def write_humaneval(folder: Path, n: int = 4) -> dict[str, Any]:
    """Keys of a component over HumanEval in a local file, in our sandbox."""
    rows = [
        {
            "task_id": f"HumanEval/{i}",
            "prompt": f'def add{i}(x):\n    """x plus {i}."""\n',
            "canonical_solution": f"    return x + {i}\n",
            "test": f"def check(candidate):\n    assert candidate(1) == {1 + i}\n",
            "entry_point": f"add{i}",
        }
        for i in range(n)
    ]
    (folder / "humaneval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"openai/openai_humaneval": {"files": {"test": "humaneval.jsonl"}}}
    return {"task": "inspect_evals/humaneval", "data": data, "sandbox": "harness", "allow_code_execution": True}


HEAD = """
from inspect_ai import Epochs, Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import *
from inspect_ai.solver import generate, solver, use_tools
from inspect_ai.tool import tool


def samples():
    return [
        Sample(id=f"w{i}", input=f"What is on shelf {i}?", target=f"word{i}", metadata={"group": str(i % 3)})
        for i in range(8)
    ]
"""


def write_task(folder: Path, code: str, name: str = "t.py") -> dict[str, Any]:
    """Keys of a component over task `t` of a file, which has `samples()` and Inspect's names."""
    (folder / name).write_text(f"{HEAD}\n\n{code}")
    return {"task": f"{name}@t"}


def component(folder: Path, **keys: Any) -> InspectComponent:
    """As a spec in `folder` loads it."""
    config = InspectConfig.model_validate({"name": "it", "kind": "inspect", "attempts": 1, **keys})
    found = InspectComponent.load(InspectComponent.resolve(config, folder), Defaults())
    assert isinstance(found, InspectComponent)
    return found


def text_of(request: ChatRequest) -> str:
    """The last message of a conversation."""
    return str(request.messages[-1]["content"])


def by_hash(request: ChatRequest) -> ChatAnswer:
    """A choice that depends on the question alone."""
    number = int(hashlib.sha256(text_of(request).encode()).hexdigest(), 16)
    return ChatAnswer(content=f"ANSWER: {'ABCD'[number % 4]}", usage=Usage(prompt_tokens=7, completion_tokens=3))


def shelves(request: ChatRequest) -> ChatAnswer:
    """What stands on each shelf, right for even ones."""
    number = int(text_of(request).partition("shelf ")[2].partition("?")[0])
    said = f"It is word{number}." if number % 2 == 0 else "I see nothing."
    return ChatAnswer(content=said, usage=Usage(prompt_tokens=5, completion_tokens=4))


@contextmanager
def asked(
    script: Script = shelves, *, troubles: Sequence[Trouble] = (), key: str | None = None, **endpoint: Any
) -> Iterator[tuple[ServedSubject, ScriptedServer]]:
    """A checkpoint on a scripted server."""
    with serving(ScriptedServer(script, troubles=troubles, key=key)) as server:
        where = Endpoint(api_base=server.url, model="m", how="external", api_key=key, **endpoint)
        yield ServedSubject(None, None, where), server


def measured(it: InspectComponent, subject: Any, scratch: Path) -> Outcome:
    """One measurement."""
    return it.measure(subject, SilentProgress(), scratch)


def rows(outcome: Outcome) -> Mapping[str, Mapping[str, Any]]:
    """Its items by id."""
    columns = outcome.items
    return {name: {key: columns[key][number] for key in columns} for number, name in enumerate(columns["id"])}


def on(shelf: int, kind: str) -> Trouble:
    """Misbehave when a sample's question is asked."""
    return Trouble(kind=kind, when=lambda _, request: f"shelf {shelf}?" in str(request.messages[0]["content"]))


def write_mbpp(folder: Path) -> dict[str, Any]:
    """Keys of a component over MBPP in local files."""
    tests = ["assert double(2) == 4", "assert double(3) == 6"]
    full = [
        {"task_id": i, "text": f"Text {i}.", "code": "def f(): pass", "test_list": ["assert True"]} for i in (2, 3, 4)
    ]
    kept = [
        {
            "task_id": i,
            "source_file": "x",
            "prompt": f"Write number {i}.",
            "code": "def double(x): return 2 * x",
            "test_list": tests,
            "test_imports": [],
        }
        for i in (11, 12)
    ]
    for name, found in (("prompt", full), ("mbpp", kept)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    files = {"prompt": "prompt.jsonl", "test": "mbpp.jsonl"}
    data = {"google-research-datasets/mbpp": {"files": files}}
    keys = {"sandbox": "harness", "allow_code_execution": True, "epochs": 1, "reducer": "mean"}
    return {"task": "inspect_evals/mbpp", "data": data, **keys}


def write_bigcodebench(folder: Path) -> dict[str, Any]:
    """Keys of a component over BigCodeBench in a local file."""
    test = (
        "import unittest\nclass TestCases(unittest.TestCase):\n"
        "    def test_it(self):\n        self.assertEqual(task_func(2), 4)\n"
    )
    found = [
        {
            "task_id": f"BigCodeBench/{i}",
            "complete_prompt": f"Write number {i}.",
            "canonical_solution": "x",
            "test": test,
            "libs": "[]",
        }
        for i in (11, 12)
    ]
    (folder / "big.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    data = {"bigcode/bigcodebench": {"files": {"v0.1.2": "big.jsonl"}}}
    return {"task": "inspect_evals/bigcodebench", "data": data, "sandbox": "harness", "allow_code_execution": True}


def write_apps(folder: Path, name: str = "apps") -> dict[str, Any]:
    """Keys of a component over APPS in a local copy of its repository: JSON lines, of which it asks for those of one level."""
    (folder / name).mkdir()
    found = [
        {
            "id": i,
            "question": f"Write number {i}.",
            "solutions": "[]",
            "input_output": json.dumps({"inputs": [2, [3, 4]], "outputs": [4, [3, 4, 3, 4]]}),
            "difficulty": level,
            "url": name,
            "starter_code": "",
        }
        for i, level in ((11, "interview"), (12, "interview"), (4001, "introductory"))
    ]
    for split in ("train", "test"):
        (folder / name / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    keys = {"sandbox": "harness", "allow_code_execution": True}
    return {"task": "inspect_evals/apps", "data": {"codeparrot/apps": {"path": name}}, **keys}


def write_ds1000(folder: Path) -> dict[str, Any]:
    """Keys of a component over DS-1000 in a local file."""
    context = (
        "import numpy as np\ndef test_execution(solution):\n    names = {'np': np}\n    exec(solution, names)\n"
        "    assert names['result'] == 4, names['result']\n"
    )
    found = [
        {
            "prompt": f"Write number {i}.",
            "reference_code": "result = 4",
            "code_context": context,
            "metadata": {"problem_id": i, "library": "Numpy", "perturbation_type": "Origin"},
        }
        for i in (11, 12)
    ]
    (folder / "ds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    data = {"xlangai/DS-1000": {"files": {"test": "ds.jsonl"}}}
    return {"task": "inspect_evals/ds1000", "data": data, "sandbox": "harness", "allow_code_execution": True}


def by_inspect(it: InspectComponent, url: str, folder: Path) -> Any:
    """The log of Inspect's own `eval` of the same task, through its own provider."""
    from inspect_ai import eval_async
    from inspect_ai.model import get_model
    from inspect_ai.util._display import init_display_type

    from harness.components.inspect.surroundings import inspect_alone, quiet

    async def evaluated() -> Any:
        model = get_model("openai-api/scripted/m", base_url=url, api_key="none", memoize=False)
        async with model:  # its connections end with the loop that they belong to
            return await eval_async(it.built.task, model=model, sandbox=it.config.sandbox, log_dir=str(folder / "log"))

    with inspect_alone(), quiet():
        init_display_type("none")
        (log,) = asyncio.run(evaluated())
    assert log.status == "success"
    return log
