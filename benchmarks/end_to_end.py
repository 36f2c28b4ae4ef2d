"""One spec with a log-prob field, a multiple-choice task and tau2 mock over checkpoints of a 1M-parameter model, through vLLM.

    python benchmarks/end_to_end.py --vllm .venv-vllm [--checkpoints 4] [--questions 200]

What the harness itself costs beside the models: CPU time of this process outside loading and forward passes, over CPU time of the
models (loading, forward passes, and all of the server's processes, its start included). The user of the simulations is a script in a
process of its own, which counts for neither.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweep import make_checkpoints

from harness.checkpoints.find import find_checkpoints
from harness.engines.models.shelf import Shelf
from harness.engines.scoring import score as scoring
from harness.lm_eval import checkpoint_lm
from harness.lm_eval import model as lm_eval_model
from harness.run.observer import Observer
from harness.run.pipeline import run
from harness.spec.prepared import prepare
from harness.spec.spec import parse_spec

TEMPLATE = (
    "{% if tools %}Tools: {% for tool in tools %}{{ tool.function | tojson }}\n{% endfor %}"
    "Call one with <tool_call>{...}</tool_call>\n{% endif %}"
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>"
    "{{ c.function | tojson }}</tool_call>{% endfor %}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
TASK = """
task: local_choices
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/choices.jsonl}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc}}]
"""


def write_spec(folder: Path, *, vllm: str, user: str, questions: int) -> Any:
    """The spec, with a task of random questions beside it."""
    (folder / "tasks").mkdir()
    (folder / "tasks" / "choices.yaml").write_text(TASK.format(folder=folder))
    dice = random.Random(0)
    words = [
        "code",
        "prose",
        "model",
        "token",
        "score",
        "field",
        "mixture",
        "domain",
        "step",
        "agent",
        "tool",
        "server",
        "answer",
        "reward",
    ]
    rows = [
        {
            "question": f"Question {n}: " + " ".join(dice.choices(words, k=30)) + "?\nAnswer:",
            "choices": [" ".join(dice.choices(words, k=5)) for _ in range(4)],
            "answer": dice.randrange(4),
        }
        for n in range(questions)
    ]
    (folder / "choices.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    value = {
        "serve": {
            "command": vllm,
            "args": ["--enforce-eager"],
            "env": {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_CI_ENV": "1"},
        },
        "device": "cpu",
        "components": [
            {"name": "prose", "kind": "logprob", "field": "stdlib_prose"},
            {"name": "choices", "kind": "lm_eval", "task": "local_choices", "include_path": ["tasks"]},
            {
                "name": "mock",
                "kind": "tau2",
                "domain": "mock",
                "user": {"model": "hosted_vllm/scripted", "api_base": user},
                "agent": {"args": {"temperature": 0.0, "max_tokens": 64}},
                "max_steps": 20,
            },
        ],
    }
    return parse_spec(value, folder=folder)


@contextmanager
def scripted_user() -> Iterator[str]:
    """The address of a user that plays the mock domain's scenarios."""
    command = [sys.executable, "-c", "from harness.cli import main; main()", "tau2", "scripted", "--domain", "mock"]
    with subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


class Clocked:
    """A function whose CPU seconds, all threads included, are added up; a call within a call counts once."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.seconds = 0.0
        self._function = function
        self._depth = 0

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        self._depth += 1
        started = time.process_time()
        try:
            return self._function(*arguments, **keywords)
        finally:
            self._depth -= 1
            if not self._depth:
                self.seconds += time.process_time() - started


class _Times(Observer):
    def __init__(self) -> None:
        self.at = [time.perf_counter()]

    def finished(self, vector: Any, *, new: bool) -> None:
        for component in vector.components:
            if component.raw is None:
                raise RuntimeError(f"{component.name}: {component.reason}")
        self.at.append(time.perf_counter())


def cpu_s(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", default=".venv-vllm", help="the vllm command or its environment")
    parser.add_argument("--checkpoints", type=int, default=4)
    parser.add_argument("--questions", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, scripted_user() as user, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        n_parameters = make_checkpoints(
            folder / "run", options.checkpoints, context=4096, tied=False, chat_template=TEMPLATE
        )
        prepared_at = time.process_time()
        spec = write_spec(folder, vllm=str(Path(options.vllm).absolute()), user=user, questions=options.questions)
        # Only a benchmark may put clocks where functions were.
        forward, load = Clocked(scoring.score), Clocked(Shelf.full)
        scoring.score = lm_eval_model.score = checkpoint_lm.score = forward  # type: ignore[assignment]
        Shelf.full = lambda shelf, *rest: load(shelf, *rest)  # type: ignore[method-assign]
        times = _Times()
        children, own = cpu_s(resource.RUSAGE_CHILDREN), time.process_time()
        prepared = prepare(spec)
        times.at = [time.perf_counter()]
        summary = run(prepared, find_checkpoints([str(folder / "run")]), out=folder / "out", observer=times)
        own, server = time.process_time() - own, cpu_s(resource.RUSAGE_CHILDREN) - children
        starts = len(list((folder / "out" / "serve").glob("*.log")))
        model = load.seconds + forward.seconds + server
        overhead = own - load.seconds - forward.seconds
        wall = [b - a for a, b in zip(times.at[:-1], times.at[1:], strict=True)]
        n_simulations = sum(c.n_scored for v in summary.feed for c in v.components if c.kind == "tau2")
    print(f"{options.checkpoints} checkpoints of {n_parameters / 1e6:.1f}M parameters, {n_simulations} simulations")
    print(f"server starts: {starts}; ways onto it: {', '.join(str(v.provenance.served) for v in summary.feed)}")
    print(f"wall s per checkpoint: {', '.join(f'{s:.1f}' for s in wall)}")
    print(f"models, CPU-s: server {server:.1f}, forward {forward.seconds:.1f}, load {load.seconds:.1f}")
    print(f"harness, CPU-s: {overhead:.1f} (imports, data and tasks once, requests, verdicts, disk)")
    print(f"overhead over model time: {overhead / model:.1%}; imports before: {prepared_at:.1f} CPU-s")


if __name__ == "__main__":
    main()
