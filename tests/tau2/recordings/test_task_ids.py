"""A simulation whose recorded checks are of another task than it names is not judged, is named, and nobody is blamed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tau2_samples import needs_port, recorded, results, task_value

from harness.cli import run
from harness.core.tau2.upstream import Upstream
from harness.tau2.recordings.rescore import NlJudge, Rescored, prepare, rescore

pytestmark = needs_port
MEETING = {"name": "create_task", "arguments": {"user_id": "user_1", "title": "Important Meeting"}}
USERS: dict[str, Any] = {"name": "get_users", "arguments": {}}
TASKS = [task_value(), task_value("users", actions=[{"action_id": "b", **USERS}], nl_assertions=["It was kind."])]


def checked(task_id: str, *actions: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A recorded simulation that made the first task's call and whose verdict checked these actions."""
    checks = [
        {"action": {"action_id": "x", **action}, "action_match": True, "action_reward": 1.0} for action in actions
    ]
    info = {"reward": 1.0, "action_checks": checks, **more.pop("info", {})}
    return recorded(task_id=task_id, reward_info=info, **more)


def rescored(path: Path, *simulations: Any, upstream: Upstream | None = None) -> list[Rescored]:
    path.write_text(json.dumps(results(*simulations, tasks=TASKS)))
    prepared = prepare(path, domain=None, data=None, tasks_file=None, upstream=upstream or Upstream())
    return list(rescore(prepared, nl_judge=NlJudge.NONE))


def test_checks_of_another_task_are_noticed_and_blame_nobody(tmp_path: Path) -> None:
    wrong, right = rescored(tmp_path / "r.json", checked("users", MEETING), checked("create_task_1", MEETING))
    assert wrong.checks_of == ("create_task_1",) and wrong.fault is None and wrong.verdict.reward is None
    assert wrong.verdict.reason == "its recorded checks are of task 'create_task_1', not of its task"
    assert right.checks_of == () and right.verdict.reward == 1.0


def test_as_upstream_the_task_named_is_what_counts(tmp_path: Path) -> None:
    (item,) = rescored(tmp_path / "r.json", checked("users", MEETING), upstream=Upstream(task_ids=True))
    assert item.checks_of == () and item.verdict.reward == 0.0 and item.fault is not None


@pytest.mark.parametrize(
    "simulation",
    [
        checked("users", {"name": "get_users", "arguments": {"all": True}}),
        checked("users", USERS, info={"nl_assertions": [{"nl_assertion": "Kindness was there.", "met": True}]}),
        recorded(task_id="users"),
    ],
    ids=["a task that changed", "an assertion in other words", "no checks"],
)
def test_checks_that_are_nobodys_say_nothing(tmp_path: Path, simulation: Any) -> None:
    (item,) = rescored(tmp_path / "r.json", simulation)
    assert item.checks_of == () and item.verdict.reward is not None


def test_in_such_a_file_a_simulation_without_checks_is_of_no_sure_task_either(tmp_path: Path) -> None:
    early = recorded(id="early", task_id="users", termination_reason="max_steps")
    silent = recorded(id="silent", task_id="users", reward_info={"reward": 1.0})
    _, ended, open_end = rescored(tmp_path / "r.json", checked("users", MEETING), early, silent)
    assert (ended.verdict.reward, ended.fault) == (0.0, None), "worth 0 whatever it was about"
    assert open_end.verdict.reward is None and open_end.fault is None
    (alone,) = rescored(tmp_path / "r.json", silent)
    assert alone.verdict.reward == 0.0


def test_the_command_names_the_simulations_and_the_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "r.json", tmp_path / "out.jsonl"
    path.write_text(json.dumps(results(checked("users", MEETING), tasks=TASKS)))
    assert run(["tau2", "rescore", str(path), "--out", str(out)]) == 8
    printed = capsys.readouterr()
    assert "good names task 'users', checks 'create_task_1'" in printed.err and "nobody is blamed" in printed.err
    assert "at fault" not in printed.out
    line = json.loads(out.read_text())
    assert line["checks_of"] == ["create_task_1"] and line["reward"] is None and "fault" not in line
