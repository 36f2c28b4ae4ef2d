"""Upstream's own `tau2` package as a source: the real one where it is installed, and a tiny one of its shape everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tau2_online import plan, run_plan
from tau2_samples import needs_port, play, shared, simulation

from harness.core.errors import DataError, SpecError
from harness.core.tau2.message import Message, ToolCall
from harness.engines.scripted.chat import ScriptedChat
from harness.reward_models.tau2.reward import judge
from harness.tasks.tau2 import upstream
from harness.tasks.tau2.sources import open_domain
from harness.tau2.line import message_json
from harness.tau2.recordings.rescore import NlJudge, prepare, rescore
from harness.tau2.simulate.reference_play import ReferencePlay

needs_upstream = pytest.mark.skipif(
    not upstream.is_installed(),
    reason="tau2-bench's own package is not installed (pip install git+https://github.com/sierra-research/tau2-bench)",
)
NAMES = ("airline", "retail", "telecom", "mock")
GIVES_0 = {"update_task_with_history_and_env_assertions", "update_task_with_user_tools"}
"""Of mock; upstream gives their reference play 0 as well."""


@needs_upstream
@pytest.mark.parametrize("name", NAMES)
def test_upstreams_environments_are_those_of_the_port(name: str) -> None:
    pytest.importorskip("inspect_evals", reason="inspect-evals is not installed (the extra tau2)")
    ours, theirs = open_domain(name, source="inspect_evals"), open_domain(name, source="tau2")
    assert theirs.source.startswith("tau2 ") and ours.source.startswith("inspect-evals ")
    for mine, yours in ((ours.tools, theirs.tools), (ours.user_tools, theirs.user_tools)):
        assert {key: tool.changes_state for key, tool in mine.items()} == {
            key: tool.changes_state for key, tool in yours.items()
        }
        assert list(mine) == list(yours), "the order in which a model is shown them"


@needs_upstream
@pytest.mark.parametrize("name", NAMES)
def test_reference_play_in_upstreams_environments(name: str) -> None:
    domain = open_domain(name, source="tau2")
    failed = set()
    for task in domain.tasks("base"):
        messages = play(domain, task)
        met = [True] * len((task.evaluation_criteria and task.evaluation_criteria.nl_assertions) or ())
        verdict = judge(task, simulation(task, messages), domain.end_state(task, messages), nl_met=met)
        if verdict.reward != 1.0:
            failed.add(task.id)
    assert failed == (GIVES_0 if name == "mock" else set())


@needs_upstream
@pytest.mark.parametrize("name", NAMES)
def test_recorded_simulations_get_upstreams_rewards_in_its_environments(name: str) -> None:
    import gzip

    path = shared("tau2_parity", f"{name}.results.json.gz")
    text = gzip.decompress(shared("tau2_parity", f"{name}.expected.jsonl.gz").read_bytes()).decode()
    expected = {line["id"]: line["reward_if_nl_passes"] for line in map(json.loads, text.splitlines())}
    opened = prepare(path, domain=None, data=None, tasks_file=None, source="tau2")
    assert {item.id: item.verdict.reward for item in rescore(opened, nl_judge=NlJudge.PASS)} == expected


@pytest.mark.parametrize(
    "source", [pytest.param("tau2", marks=needs_upstream), pytest.param("inspect_evals", marks=needs_port)]
)
def test_what_one_simulation_breaks_is_whole_in_the_next(source: str) -> None:
    domain = open_domain("telecom", source=source)
    connect = ToolCall(name="connect_vpn", arguments={}, requestor="user")
    for _ in range(2):
        environment = domain.environment()
        assert environment.user is not None and not environment.call(connect).error
        details = environment.user.target.db.device.vpn_details
        assert details.server_performance.value == "excellent"
        environment.user.target.break_vpn()
        assert details.server_performance.value == "poor"


@needs_upstream
def test_banking_knowledge_is_played(tmp_path: Path) -> None:
    pytest.importorskip("rank_bm25", reason="rank-bm25 is not installed (upstream's extra `knowledge`)")
    made = plan("banking_knowledge", retrieval="bm25", num_tasks=2)
    assert made.domain.source.endswith(", retrieval bm25")
    assert len(made.agent_tools) < len(made.domain.tools), "what has to be discovered is not shown"
    model = ScriptedChat(ReferencePlay(made.tasks))
    assert [outcome.verdict.reward for outcome in run_plan(made, tmp_path, model).results] == [1.0, 1.0]


@needs_upstream
def test_banking_knowledge_is_scored_without_a_key(tmp_path: Path) -> None:
    opened = open_domain("banking_knowledge", source="tau2", scoring=True)
    assert not {"KB_search", "KB_search_dense"} & set(opened.tools), "nothing there embeds, so nothing asks for a key"
    task = opened.tasks()[0]
    search = ToolCall(id="q", name="KB_search", arguments={"query": "x"})
    looked = [Message(role="assistant", tool_calls=(search,)), Message(role="tool", id="q", content="found")]
    line = {"id": "s", "task_id": task.id, "termination_reason": "user_stop", "domain": "banking_knowledge"}
    played = [message_json(message, None) for message in (*looked, *play(opened, task))]
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({**line, "source": f"{opened.source}, retrieval bm25", "messages": played}) + "\n")
    (item,) = rescore(prepare(path, domain=None, data=None, tasks_file=None), nl_judge=NlJudge.NONE)
    assert item.verdict.reward == 1.0 and item.unknown_calls == (), "no verdict depends on how documents are found"


PACKAGE: dict[str, str] = {
    "__init__.py": "",
    "domains/__init__.py": "",
    "agent/__init__.py": "",
    "runner/__init__.py": "",
    "utils/__init__.py": "",
    "utils/utils.py": "from pathlib import Path\nDATA_DIR = Path(__file__).parents[2] / 'data'\n",
    "runner/build.py": "def _derive_read_log_allowlist(task):\n    return set()\n",
    "agent/llm_agent.py": """
        AGENT_INSTRUCTION = "Be theirs."
        AGENT_SOLO_INSTRUCTION = "Stop with {stop_function_name}."
        class LLMSoloAgent:
            STOP_FUNCTION_NAME, STOP_TOKEN = "done", "###STOP###"
    """,
    "registry.py": """
        from pydantic import BaseModel

        class Lamp(BaseModel):
            on: bool = False

        class House(BaseModel):
            lamps: dict[str, Lamp] = {}

        class Described:
            def __init__(self, name):
                self.openai_schema = {"type": "function", "function": {"name": name, "parameters": {}}}

        class Kit:
            names = {}
            def __init__(self, db):
                self.db = db
            @property
            def tools(self):
                return {name: getattr(self, name) for name in self.names}
            def get_tools(self):
                return {name: Described(name) for name in self.names if not self.is_discoverable(name)}
            def tool_mutates_state(self, name):
                return self.names[name]
            def is_discoverable(self, name):
                return name == "secret"

        class Agent(Kit):
            names = {"switch": True, "secret": True}
            def switch(self, lamp):
                self.db.lamps[lamp].on = not self.db.lamps[lamp].on
                return "[1,2]"
            def secret(self):
                return "found"

        class User(Kit):
            names = {"look": False, "shout": False}
            def look(self):
                return str(self.db.lamps["l"].on)
            def shout(self):
                return "!"

        class World:
            def __init__(self, db):
                self.tools, self.user_tools = Agent(db), User(db)
            def sync_tools(self):
                pass
            def get_policy(self):
                return "Light."

        def make(db=None):
            print("a remark")
            return World(db or House(lamps={"l": Lamp()}))

        class Task(BaseModel):
            id: str
            user_scenario: dict = {"persona": None, "instructions": "Dark."}
            evaluation_criteria: dict = {
                "actions": [{"action_id": "a", "name": "switch", "arguments": {"lamp": "l"}}], "reward_basis": ["DB"]
            }
            user_tools: list[str] | None = None

        class Registry:
            def get_domains(self):
                return ["lamps"]
            def get_task_sets(self):
                return ["lamps"]
            def get_env_constructor(self, name):
                return make
            def get_tasks_loader(self, name):
                return lambda split=None: [Task(id="all"), Task(id="few", user_tools=["look"])]
            def get_task_splits_loader(self, name):
                return None

        registry = Registry()
    """,
}
PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from harness.core.chat import ChatRequest
from harness.core.tau2.message import ToolCall
from harness.engines.scripted.chat import ScriptedChat
from harness.tasks.tau2.sources import open_domain
from harness.core.tau2.upstream import Upstream
from harness.tau2.simulate.reference_play import ReferencePlay
from harness.tau2.runs.run import Models, run
from harness.tau2.runs.folder import open_run_folder
from harness.tau2.plan import make_plan
from harness.tau2.settings import settings_of

made = make_plan(settings_of({"domain": "lamps", "source": "tau2", "upstream": ["instructions"]}))
model = ScriptedChat(ReferencePlay(made.tasks))
with open_run_folder(Path(sys.argv[1]), identity=made.identity()) as folder:
    report = asyncio.run(run(made, Models(agent=model, user=model), folder))
users = [r for r in model.requests if "<scenario>" in str(r.messages[0]["content"])]
shown = {r.tag: [t["function"]["name"] for t in r.tools] for r in users}
environment = made.domain.environment()
answers = [environment.call(ToolCall(name=n, arguments=a)).content for n, a in
           (("switch", {"lamp": "l"}), ("secret", {}), ("nothing", {}))]
print(json.dumps({
    "source": made.domain.source, "rewards": [o.verdict.reward for o in report.results], "shown": shown,
    "agent_tools": [t["function"]["name"] for t in made.agent_tools], "answers": answers,
    "instructions": made.prompts.agent_instructions, "policy": made.prompts.policy,
    "untouched": made.domain.environment().user.target.look(),
}))
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of upstream's shape with one domain, and its data folder."""
    import textwrap

    root = tmp_path_factory.mktemp("upstream")
    for name, text in PACKAGE.items():
        path = root / "tau2" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    (root / "loguru.py").write_text("class logger:\n    disable = staticmethod(lambda name: None)\n")
    guidelines = root / "data" / "tau2" / "user_simulator"
    guidelines.mkdir(parents=True)
    for name in ("simulation_guidelines", "simulation_guidelines_tools"):
        (guidelines / f"{name}.md").write_text("Play a user.")
    return root


def in_python(program: str, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(root), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )


def test_a_package_of_upstreams_shape_is_played(tiny: Path, tmp_path: Path) -> None:
    done = in_python(PROGRAM, tiny, str(tmp_path))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["source"].startswith("tau2 ") and found["rewards"] == [1.0, 1.0]
    assert found["shown"] == {"all": ["look", "shout"], "few": ["look"]}, "a task says which tools its user has"
    assert found["agent_tools"] == ["switch"] and found["answers"] == [
        "[1,2]",
        "found",
        "Error: Tool 'nothing' not found.",
    ]
    assert (found["instructions"], found["policy"], found["untouched"]) == ("Be theirs.", "Light.", "False")
    lines = [json.loads(line) for line in (tmp_path / "simulations.jsonl").read_text().splitlines()]
    assert {line["source"] for line in lines} == {found["source"]}
    assert [line["task"]["user_tools"] for line in lines] == [None, ["look"]]


def test_what_the_package_lacks_is_said(tiny: Path) -> None:
    program = "from harness.tasks.tau2.sources import open_domain; open_domain('garden', source='tau2')"
    assert (
        "unknown tau2 domain 'garden'; the tau2 package that is installed has lamps" in in_python(program, tiny).stderr
    )
    (tiny / "data" / "tau2").rename(tiny / "data" / "elsewhere")
    program = program.replace("garden", "lamps")
    assert "set TAU2_DATA_DIR to its folder `data`" in in_python(program, tiny).stderr
    (tiny / "data" / "elsewhere").rename(tiny / "data" / "tau2")


def test_options_that_do_not_fit_the_source_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="`source` 'pypi' is unknown; it takes auto, inspect_evals, tau2"):
        open_domain("mock", source="pypi")
    with pytest.raises(SpecError, match="`data` is of no use with upstream's package"):
        open_domain("mock", source="tau2", data=tmp_path)
    with pytest.raises(SpecError, match="`retrieval` is for banking_knowledge; domain mock retrieves nothing"):
        open_domain("mock", source="inspect_evals", retrieval="bm25")
    with pytest.raises(SpecError, match="`retrieval` 'bm25' is none of grep_only, full_kb, no_knowledge"):
        open_domain("banking_knowledge", source="inspect_evals", retrieval="bm25")


@pytest.mark.skipif(upstream.is_installed(), reason="tau2-bench's own package is installed")
def test_without_the_package_it_is_said_how_to_get_it() -> None:
    with pytest.raises(DataError, match=r"not installed; run: pip install git\+https://github.com/sierra-research"):
        open_domain("mock", source="tau2")
