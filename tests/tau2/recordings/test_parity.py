"""Verdicts equal upstream's on every simulation that was recorded with upstream's own verdict."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tau2_samples import NAMES, needs_port, shared

from harness.tasks.tau2.environment import exchanges, same_answer
from harness.tau2.recordings.rescore import NlJudge, PreparedRecording, prepare, rescore

pytestmark = needs_port
COUNTS = {"mock": 59, "telecom": 450, "retail": 342, "airline": 150}


def expected(domain: str) -> dict[str, Mapping[str, Any]]:
    with gzip.open(shared("tau2_parity", f"{domain}.expected.jsonl.gz"), "rt", encoding="utf-8") as stream:
        return {line["id"]: line for line in map(json.loads, stream)}


def recording(domain: str) -> PreparedRecording:
    path = shared("tau2_parity", f"{domain}.results.json.gz")
    data: Path | None = shared("tau2_tasks") if domain == "mock" else None
    return prepare(path, domain=None, data=data, tasks_file=None)


@pytest.mark.parametrize("domain", NAMES)
def test_every_recorded_simulation_gets_upstreams_verdict(domain: str) -> None:
    wanted = expected(domain)
    wrong = []
    rescored = list(rescore(recording(domain), nl_judge=NlJudge.PASS))
    for item in rescored:
        line = wanted[item.id]
        components = {name: item.verdict.components[name] for name in line["components"]}
        if (item.verdict.reward, components) != (line["reward_if_nl_passes"], line["components"]):
            wrong.append((item.id, line["variant"], item.verdict, line))
    assert not wrong
    assert len(rescored) == len(wanted) == COUNTS[domain]


@pytest.mark.parametrize("domain", NAMES)
def test_every_recorded_tool_answer_is_given_again(domain: str) -> None:
    prepared = recording(domain)
    n = 0
    for simulation in prepared.recording.simulations:
        environment = prepared.domain.environment()
        environment.initialize(prepared.tasks[simulation.task_id].initial_state)
        for call, answer in exchanges(simulation.messages):  # type: ignore[union-attr]
            now = environment.call(call)
            assert same_answer(now, answer), (simulation.id, call, now)
            n += 1
    assert n > COUNTS[domain]


def test_without_a_judge_nothing_that_needs_one_passes() -> None:
    wanted = expected("retail")
    prepared = recording("retail")
    n = 0
    for item in rescore(prepared, nl_judge=NlJudge.NONE):
        criteria = prepared.tasks[item.task_id].evaluation_criteria
        assert criteria is not None and item.verdict.components["NL_ASSERTION"] is None
        gated = "NL_ASSERTION" in criteria.reward_basis and criteria.nl_assertions
        if gated and wanted[item.id]["termination_reason"] == "user_stop":
            assert item.verdict.reward is None and item.verdict.reason == "needs a judge"
            n += 1
        elif not gated:
            assert item.verdict.reward == wanted[item.id]["reward_if_nl_passes"]
    assert n > 50


def test_a_simulation_does_not_depend_on_those_before_it() -> None:
    prepared = recording("airline")
    forwards = {item.id: item.verdict for item in rescore(prepared, nl_judge=NlJudge.PASS)}
    for simulation in reversed(prepared.recording.simulations):
        task = prepared.tasks[simulation.task_id]
        again = prepared.domain.end_state(task, simulation.messages)  # type: ignore[union-attr]
        database = forwards[simulation.id].components["DB"]
        assert database is None or again.database_matches == bool(database)


def test_in_ci_a_recording_that_is_not_there_is_a_failure_and_elsewhere_a_skip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_SHARED", str(tmp_path))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="is absent; point HARNESS_SHARED at"):
        recording("mock")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="is absent; point HARNESS_SHARED at"):
        recording("mock")
