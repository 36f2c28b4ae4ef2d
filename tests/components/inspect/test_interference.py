"""The worked example of docs/suites.md: a training for one family of agents, and what it cost another, told apart item by item."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from inspect_tasks import text_of, write_humaneval, write_words

from harness.cli import run
from harness.core.chat import ChatAnswer, ChatRequest
from harness.core.errors import EXIT_OK
from harness.engines.scripted.server import ScriptedServer, serving
from harness.spec.spec import load_spec
from harness.tasks.suites.families import families
from harness.tasks.suites.sandbox import protection

EXAMPLES = Path(__file__).parents[3] / "examples" / "families"


@pytest.mark.parametrize(("name", "target"), [("coding_without_web", "coding"), ("web_without_coding", "web")])
def test_the_presets_have_the_other_families_as_sources(name: str, target: str) -> None:
    spec: Any = load_spec(EXAMPLES / f"{name}.yaml")
    assert {one.suite: one.role for one in spec.components} == {
        family: "target" if family == target else "source" for family in families()
    }
    assert all(one.name == one.suite and one.generate == {"temperature": 0} for one in spec.components)


@pytest.mark.skipif(protection().refusal is not None, reason=str(protection().refusal))
def test_what_coding_cost_the_other_family_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before, half of the programs are right and every shelf; after, every program and a third of the shelves."""
    tiny.save(tmp_path / "sft" / "checkpoint-1", tiny.llama(1))
    write_words(tmp_path, 30)
    coding = write_humaneval(tmp_path, 30)

    def answers(request: ChatRequest, *, trained: bool) -> ChatAnswer:
        said = text_of(request)
        if "def add" in said:
            number = int(said.partition("def add")[2].partition("(")[0])
            return ChatAnswer(content=f"    return x + {number if trained or number % 2 else 99}")
        if "shelf " not in said:
            return ChatAnswer(content="yes")
        number = int(said.partition("shelf ")[2].partition("?")[0])
        return ChatAnswer(content=f"word{number}" if not trained or number % 3 == 0 else "I see nothing.")

    for name, trained in (("before", False), ("after", True)):
        with serving(ScriptedServer(lambda request, t=trained: answers(request, trained=t))) as server:
            components = [
                {"name": "coding", "kind": "inspect", **coding, "role": "target"},
                {"name": "web", "kind": "inspect", "task": "words.py@words", "role": "source"},
            ]
            spec = {"components": components, "serve": {"url": server.url, "verify": False}}
            (tmp_path / "spec.yaml").write_text(json.dumps(spec))
            where = ["--spec", str(tmp_path / "spec.yaml"), "--out", str(tmp_path / name), "--quiet"]
            assert run(["score", str(tmp_path / "sft"), *where]) == EXIT_OK
    capsys.readouterr()
    assert run(["compare", str(tmp_path / "before"), str(tmp_path / "after")]) == EXIT_OK
    said = capsys.readouterr().out
    assert "learned: coding +0.5000" in said and "forgotten: web -0.6667" in said, said
