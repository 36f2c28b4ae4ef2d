"""Playing the reference actions of every task of every domain is worth 1.0 where it is upstream."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from tau2_samples import needs_port, play, shared, simulation

from harness.core.tau2.task import Task
from harness.reward_models.tau2.reward import Verdict, judge
from harness.tasks.tau2.domain import Domain
from harness.tasks.tau2.sources import open_domain

pytestmark = needs_port
UNWINNABLE = {"update_task_with_history_and_env_assertions", "update_task_with_user_tools"}
"""Two of mock's tasks have assertions on what no reference action does; upstream gives their reference play 0 as well."""


def verdicts(domain: Domain, tasks: Sequence[Task]) -> dict[str, Verdict]:
    found: dict[str, Verdict] = {}
    for task in tasks:
        assert task.evaluation_criteria is not None
        messages = play(domain, task)
        end = domain.end_state(task, messages)
        assert end.n_differs == 0, task.id
        met = [True] * len(task.evaluation_criteria.nl_assertions or ())
        found[task.id] = judge(task, simulation(task, messages), end, nl_met=met)
    return found


@pytest.mark.parametrize(("domain", "n"), [("airline", 50), ("retail", 114), ("telecom", 2285), ("mock", 9)])
def test_of_the_tasks_that_come_with_inspect_evals(domain: str, n: int) -> None:
    opened = open_domain(domain)
    found = verdicts(opened, opened.tasks())
    assert len(found) == n
    assert {task for task, verdict in found.items() if verdict.reward != 1.0} == UNWINNABLE & found.keys()


@pytest.mark.parametrize(("domain", "n"), [("airline", 50), ("retail", 114), ("mock", 10)])
def test_of_upstreams_newer_tasks(domain: str, n: int) -> None:
    data: Path = shared("tau2_tasks")
    opened = open_domain(domain, data=data)
    opened.check(opened.tasks())
    found = verdicts(opened, opened.tasks())
    assert len(found) == n
    assert {task for task, verdict in found.items() if verdict.reward != 1.0} == UNWINNABLE & found.keys()


def test_a_task_file_replaces_the_tasks() -> None:
    path = shared("tau2_tasks", "airline", "tasks.json")
    newer = open_domain("airline", tasks_file=path)
    assert len(newer.tasks()) == 50
    assert newer.tasks() != open_domain("airline").tasks()
