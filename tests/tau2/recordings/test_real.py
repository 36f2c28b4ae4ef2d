"""Recordings that nobody here made: of many models, of several years, with the traps that real files have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tau2_samples import names_in, needs_port, shared

from harness.core.tau2.simulation import Simulation
from harness.tasks.tau2.environment import exchanges, same_answer
from harness.tau2.recordings.convert import convert
from harness.tau2.recordings.rescore import NlJudge, prepare, rescore

pytestmark = needs_port
FILES = names_in("tau2_real", "*.gz")
MIXED_UP = {"airline-dfd71123a2.json.gz": 49, "retail-09c941e54d.json.gz": 112}
"""Files whose task ids do not belong to their conversations, and how many simulations' recorded checks show it."""


@pytest.mark.parametrize("name", FILES)
def test_rewards_are_the_recorded_ones_and_wrong_task_ids_are_noticed(name: str) -> None:
    prepared = prepare(shared("tau2_real", name), domain=None, data=None, tasks_file=None)
    items = list(rescore(prepared, nl_judge=NlJudge.PASS))
    misnamed = [item for item in items if item.checks_of]
    assert len(misnamed) == MIXED_UP.get(name, 0)
    for item in items:
        if item.checks_of or item.verdict.reward is None:
            assert name in MIXED_UP and item.verdict.reward is None and item.fault is None
        else:
            assert item.verdict.reward == pytest.approx(item.recorded.reward), item.id
        assert item.n_differs == 0


@pytest.mark.parametrize("name", [name for name in FILES if name not in MIXED_UP])
def test_every_answer_of_a_tool_that_there_is_is_given_again(name: str) -> None:
    prepared = prepare(shared("tau2_real", name), domain=None, data=None, tasks_file=None)
    n = 0
    for simulation in prepared.recording.simulations:
        assert isinstance(simulation, Simulation)
        environment = prepared.domain.environment(solo=prepared.recording.solo)
        environment.initialize(prepared.tasks[simulation.task_id].initial_state)
        for call, answer in exchanges(simulation.messages):
            now = environment.call(call)
            if environment.has_tool(call.name):
                assert same_answer(now, answer), (simulation.id, call, now)
                n += 1
    assert n > 0


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_left_out_of_a_conversion_and_nothing_changes_on_the_way_back(name: str, tmp_path: Path) -> None:
    source = shared("tau2_real", name)
    results, lines = tmp_path / "r.json", tmp_path / "r.jsonl"
    for origin, out in ((source, results), (results, lines), (lines, tmp_path / "again.json")):
        made = convert(origin, out)
        assert not made.left_out
        out.write_bytes(made.content)
    before, after = json.loads(results.read_bytes()), json.loads((tmp_path / "again.json").read_bytes())
    used = {one["task_id"] for one in before["simulations"]}
    tasks = {task["id"]: task for task in before["tasks"] if task["id"] in used}
    assert {task["id"]: task for task in after.pop("tasks")} == tasks
    assert after == {key: value for key, value in before.items() if key != "tasks"}
