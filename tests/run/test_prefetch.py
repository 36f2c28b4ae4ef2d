"""harness prefetch: fetched from a hub over HTTP, and then a run asks nobody; what cannot be had is named and fails."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny
import yaml
from hub import NEW, Hub, client_environment, serving

from harness.core.errors import EXIT_INCOMPLETE, EXIT_OK, SpecError
from harness.feed.feed import read_feed


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    Hub.models["lab/tiny"] = tiny.save(tmp_path_factory.mktemp("hub") / "tiny", tiny.llama(1))
    with serving() as address:
        yield address
    del Hub.models["lab/tiny"]


class Machine:
    """A machine with caches of its own, a spec and the command line."""

    def __init__(self, endpoint: str, home: Path) -> None:
        self.endpoint, self.home = endpoint, home
        self.spec = home / "spec.yaml"
        hub = {"path": "lab/maths", "q": "{{ problem }}:", "r": " {{ solution }}"}
        self.write(
            "algebra.yaml", {"task": "algebra", "metadata": {"hub": {**hub, "split": "train", "names": ["algebra"]}}}
        )
        code = {**hub, "split": "validation", "data_files": "validation/Code/**"}
        self.write("code.yaml", {"task": "code", "metadata": {"hub": code}})
        (home / "own.jsonl").write_text('{"q": "a", "r": " b"}\n')
        pairs = [{"name": name, "kind": "logprob", "field": f"{name}.yaml"} for name in ("algebra", "code")]
        self.components: list[dict[str, Any]] = [*pairs, {"name": "own", "kind": "logprob", "field": "own.jsonl"}]

    def write(self, name: str, value: Any) -> None:
        (self.home / name).write_text(yaml.safe_dump(value))

    def run(self, *arguments: str, offline: bool = False) -> subprocess.CompletedProcess[str]:
        self.write("spec.yaml", {"components": self.components})
        environment = client_environment(self.endpoint, self.home, offline=offline)
        command = [sys.executable, "-m", "harness", *arguments, "--spec", str(self.spec)]
        return subprocess.run(command, env=environment, cwd=self.home, capture_output=True, text=True, check=False)

    def states(self, done: subprocess.CompletedProcess[str]) -> dict[str, str]:
        lines = [re.split(r" {2,}", line, maxsplit=2) for line in done.stdout.splitlines()]
        return {name: state for state, name, _ in lines}


@pytest.fixture
def machine(endpoint: str, tmp_path: Path) -> Machine:
    Hub.seen.clear()
    (tmp_path / "home").mkdir()
    return Machine(endpoint, tmp_path / "home")


@pytest.mark.slow
def test_what_is_fetched_once_is_enough_for_a_run_without_network(machine: Machine, tmp_path: Path) -> None:
    done = machine.run("prefetch", "lab/tiny@v1")
    assert done.returncode == EXIT_OK, done.stdout + done.stderr
    assert machine.states(done) == {
        "component algebra": "fetched",
        "component code": "fetched",
        "component own": "here",
        "checkpoint lab/tiny@v1": "fetched",
    }
    asked = len(Hub.seen)
    again = machine.run("prefetch", "lab/tiny@v1")
    assert set(machine.states(again).values()) == {"here"}
    elsewhere = tmp_path / "elsewhere"
    shutil.move(machine.home, elsewhere)
    other = Machine(machine.endpoint, elsewhere)
    scored = other.run("score", "lab/tiny@v1", "--out", "out", "--quiet", offline=True)
    assert scored.returncode == EXIT_OK, scored.stderr
    assert len(Hub.seen) == asked, "nobody was asked again, and the caches may be moved"
    (vector,) = read_feed(elsewhere / "out")
    assert vector.status == "ok" and vector.provenance.tasks["code"]["resolved_revision"] == NEW


@pytest.mark.slow
def test_what_cannot_be_had_is_named_with_its_cause_and_the_rest_is_fetched(machine: Machine) -> None:
    machine.components[1]["revision"] = "no-such-tag"
    machine.components[2]["field"] = "gone.jsonl"
    done = machine.run("prefetch", "lab/nothing")
    assert done.returncode == EXIT_INCOMPLETE
    assert machine.states(done) == {
        "component algebra": "fetched",
        "component code": "MISSING",
        "component own": "MISSING",
        "checkpoint lab/nothing": "MISSING",
    }
    for words in ("Revision 'no-such-tag' doesn't exist", "gone.jsonl", "the hub does not give it either"):
        assert words in done.stdout
    assert "3 of 4 missing" in done.stderr


def test_check_fetches_nothing(machine: Machine) -> None:
    done = machine.run("prefetch", "--check", "--json")
    assert done.returncode == EXIT_INCOMPLETE
    states = {(found := json.loads(line))["name"]: found["state"] for line in done.stdout.splitlines()}
    assert states == {"component algebra": "MISSING", "component code": "MISSING", "component own": "here"}
    assert Hub.seen == []


def test_benchmarks_of_a_suite_and_local_checkpoints_are_looked_at_one_by_one(tmp_path: Path) -> None:
    rows = {"sentence": "A _ b", "option1": "x", "option2": "y", "answer": "1"}
    (tmp_path / "w.jsonl").write_text(json.dumps(rows) + "\n")
    files = {"train": "w.jsonl", "validation": "w.jsonl", "test": "w.jsonl"}
    suite = {"name": "general", "kind": "lm_eval", "suite": "general", "data": {"winogrande": {"files": files}}}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump({"components": [suite]}))
    tiny.save(tmp_path / "run" / "checkpoint-1", tiny.llama(1))
    (tmp_path / "run" / "checkpoint-1" / "model.safetensors").write_bytes(b"")
    command = [sys.executable, "-m", "harness", "prefetch", "run", "--spec", "spec.yaml", "--check", "--json"]
    done = forked.run(command, cwd=tmp_path)
    assert done.returncode == EXIT_INCOMPLETE, done.stderr
    states = {(found := json.loads(line))["name"]: found for line in done.stdout.splitlines()}
    assert states["component general: winogrande"]["state"] == "here"
    assert states["component general: hellaswag"]["state"] == "MISSING"
    assert "model.safetensors" in states["checkpoint run"]["words"]


def test_a_spec_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    done = forked.run([sys.executable, "-m", "harness", "prefetch", "--spec", "none.yaml"], cwd=tmp_path)
    assert done.returncode == SpecError.exit_code
    assert done.stderr.count("no spec at none.yaml") == 1
