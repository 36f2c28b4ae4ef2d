"""Every kind in the table, and one in a package of its own, keeps the contract of a component."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import contract
import pytest
import suite_samples
import tiny
from served import ServedSubject
from tau2_samples import needs_port

from harness import read_feed
from harness.cli import run
from harness.core.chat import ChatAnswer
from harness.core.endpoint import Endpoint
from harness.core.errors import EXIT_OK
from harness.engines.scripted.server import ScriptedServer, serving
from harness.spec import kinds
from harness.spec.kinds import COMPONENTS
from harness.tau2.simulate.reference_play import ReferencePlay

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"
PAIRS = "".join(json.dumps({"q": f"Question {i}:", "r": f" answer {i}"}) + "\n" for i in range(5))


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The example's kind, found as an installed package's would be: through the entry point that its pyproject.toml declares."""
    declared = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"]["harness.components"]
    ((kind, target),) = declared.items()
    monkeypatch.syspath_prepend(str(EXAMPLE))
    point = EntryPoint(kind, target, kinds.ENTRY_POINT_GROUP)
    kinds.component_kinds.cache_clear()
    table = kinds.component_kinds()
    table[point.name] = point.value
    yield kind
    kinds.component_kinds.cache_clear()
    for name in [name for name in sys.modules if name.startswith("harness_entropy")]:
        del sys.modules[name]


def keys_of(kind: str, folder: Path) -> dict[str, Any]:
    """A small component of a kind, over files in the folder."""
    (folder / "pairs.jsonl").write_text(PAIRS)
    (folder / "lines.txt").write_text("def f(x):\n    return x\n\nThe quick brown fox.\n")
    (folder / "arc.jsonl").write_text("".join(json.dumps(row) + "\n" for row in suite_samples.arc()))
    files = dict.fromkeys(("train", "validation", "test"), "arc.jsonl")
    known: dict[str, dict[str, Any]] = {
        "logprob": {"field": "pairs.jsonl"},
        "lm_eval": {"task": "arc_challenge", "data": {"arc_challenge": {"files": files}}},
        "tau2": {"domain": "mock", "task_ids": ["create_task_1"], "user": {"model": "checkpoint"}},
        "inspect": {
            "task": "inspect_evals/arc_challenge",
            "data": {"allenai/ai2_arc": {"files": {"test": "arc.jsonl"}}},
        },
        "entropy": {"texts": "lines.txt"},
    }
    return known[kind]


@contextmanager
def subject_of(component: Any) -> Iterator[ServedSubject]:
    """A tiny model, on a scripted server where it has to answer."""
    play: Any = ReferencePlay(component.plan.tasks) if hasattr(component, "plan") else ReferencePlay(())
    if hasattr(component, "built"):
        play = lambda _: ChatAnswer(content="ANSWER: A")  # noqa: E731
    with serving(ScriptedServer(play)) as running:
        endpoint = Endpoint(api_base=running.url, model="scripted", how="external")
        yield ServedSubject(tiny.llama(), tiny.tokenizer(), endpoint)


@pytest.mark.parametrize("kind", [*COMPONENTS, "entropy"])
@needs_port
def test_a_kind_keeps_the_contract(kind: str, tmp_path: Path, example: str) -> None:
    assert example == "entropy"
    keys = keys_of(kind, tmp_path)
    contract.check_configuration(kind, keys)
    component = contract.load(kind, keys, tmp_path)
    contract.check_description(component)
    assert contract.load(kind, keys, tmp_path).definition == component.definition
    with subject_of(component) as subject:
        contract.check_measurement(component, subject, tmp_path / "scratch")


def test_the_example_goes_through_the_whole_command(
    tmp_path: Path, example: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "spec.yaml").write_text(
        "vary: {n: [1]}\ncomponents:\n"
        "  - {name: undecided, kind: entropy, texts: 'lines{n}.txt'}\n"
        "  - {name: pairs, kind: logprob, field: pairs.jsonl, prompt: '{n} {q}'}\n"
    )
    (tmp_path / "pairs.jsonl").write_text(PAIRS)
    (tmp_path / "lines1.txt").write_text("one line\nanother line\n")
    for step in (1, 2):
        tiny.save(tmp_path / "run" / f"checkpoint-{step}", tiny.llama(step))
    command = ["score", str(tmp_path / "run"), "--spec", str(tmp_path / "spec.yaml"), "--out", str(tmp_path / "out")]
    assert run(["doctor", *command[1:]]) == EXIT_OK
    assert run([*command, "--dry-run"]) == EXIT_OK
    assert run([*command, "--quiet"]) == EXIT_OK
    feed = read_feed(tmp_path / "out")
    assert [vector.status for vector in feed] == ["ok", "ok"]
    undecided = feed[0].components[0]
    assert (undecided.kind, undecided.n_items, undecided.higher_is_better) == (example, 2, False)
    assert undecided.raw is not None and 0 < undecided.raw < 6.1  # log of the vocabulary
    assert run(["ls"]) == EXIT_OK and "entropy" in capsys.readouterr().out


def test_what_an_author_imports_is_all_there() -> None:
    import harness.plugin

    for name in harness.plugin.__all__:
        assert getattr(harness.plugin, name) is not None


def test_our_own_tasks_are_declared_for_lm_eval() -> None:
    declared = tomllib.loads((EXAMPLE.parents[1] / "pyproject.toml").read_text())["project"]["entry-points"]
    assert declared["lm_eval.tasks"] == {"harness": "harness.tasks"}
