"""Compares the checks of a recorded verdict with those of tasks: whether a simulation is of the task that it names.

A file can name wrong tasks (its list was sorted or filtered after the run); its own checks show it. Knows no rewards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.core.tau2.simulation import Checks
from harness.core.tau2.task import Task


def recorded_checks(info: Mapping[str, Any]) -> Checks:
    """What the checks in upstream's `reward_info` were of; a kind without any has no key."""
    found: Checks = {
        "ACTION": [[one.get("name"), one.get("arguments")] for one in _inside(info, "action_checks", "action")],
        "ENV_ASSERTION": [
            [one.get("func_name"), one.get("arguments"), one.get("assert_value", True)]
            for one in _inside(info, "env_assertions", "env_assertion")
        ],
        "COMMUNICATE": [one.get("info") for one in _dicts(info.get("communicate_checks"))],
        "NL_ASSERTION": [one.get("nl_assertion") for one in _dicts(info.get("nl_assertions"))],
    }
    return {kind: checks for kind, checks in found.items() if checks}


def checks_of(task: Task) -> Checks:
    """What a verdict on a task checks, of every kind."""
    criteria = task.evaluation_criteria
    if criteria is None:
        return {"ACTION": [], "ENV_ASSERTION": [], "COMMUNICATE": [], "NL_ASSERTION": []}
    return {
        "ACTION": [[one.name, one.arguments] for one in criteria.actions or ()],
        "ENV_ASSERTION": [[one.func_name, one.arguments, one.assert_value] for one in criteria.env_assertions or ()],
        "COMMUNICATE": list(criteria.communicate_info or ()),
        "NL_ASSERTION": list(criteria.nl_assertions or ()),
    }


def whose_checks(recorded: Checks, task_id: str, tasks: Mapping[str, Task]) -> tuple[str, ...]:
    """The other tasks that recorded checks belong to; empty where they are of the task named, or of none.

    Checks of no task at all prove nothing: a task was changed, or a judge reworded an assertion. So a judge's checks count
    only where there are no others.
    """
    firm: Checks = {kind: checks for kind, checks in recorded.items() if kind != "NL_ASSERTION"} or recorded
    if not firm or task_id not in tasks or _fits(firm, tasks[task_id]):
        return ()
    return tuple(name for name, task in tasks.items() if _fits(firm, task))


def _fits(recorded: Checks, task: Task) -> bool:
    asked = checks_of(task)
    return all(asked[kind] == checks for kind, checks in recorded.items())


def _dicts(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _inside(info: Mapping[str, Any], kind: str, key: str) -> list[Mapping[str, Any]]:
    return [one for check in _dicts(info.get(kind)) if isinstance(one := check.get(key), Mapping)]
