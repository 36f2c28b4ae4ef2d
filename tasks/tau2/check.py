"""Checks that tasks fit a domain, before any model is called."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.errors import DataError
from harness.core.tau2.task import Task
from harness.tasks.tau2.environment import Environment


def check_tasks(tasks: Sequence[Task], domain: str, environment: Environment) -> None:
    """Raises DataError naming the first task with a reference action, tool or function that the domain does not have."""
    sides = {"assistant": environment.agent, "user": environment.user}
    for task in tasks:
        where = f"task {task.id!r} of domain {domain}"
        criteria, state = task.evaluation_criteria, task.initial_state
        for action in (criteria.actions if criteria else None) or ():
            if not environment.has_tool(action.name):
                raise DataError(
                    f"{where}: reference action {action.action_id!r} calls the tool {action.name!r}, "
                    "which does not exist; correct the task file, or name the right `domain`"
                )
        for name in task.user_tools or ():
            if environment.user is None or name not in environment.user.tools:
                raise DataError(
                    f"{where}: its user_tools name {name!r}, which the user does not have; correct the task file"
                )
        calls = [*((state.initialization_actions if state else None) or ())]
        calls += (criteria.env_assertions if criteria else None) or ()
        for call in calls:
            side = sides[call.env_type]
            if side is None or side.function(call.func_name) is None:
                raise DataError(
                    f"{where}: the {call.env_type} side has no function {call.func_name!r}; "
                    "correct the task file, or name the right `domain`"
                )
