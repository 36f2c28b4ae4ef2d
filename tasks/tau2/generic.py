"""Tools that several domains have and that touch no database: transfer_to_human_agents and calculate."""

from __future__ import annotations

from typing import Any

from harness.tasks.tau2 import arithmetic
from harness.tasks.tau2.tool import Tool


def transfer_to_human_agents(summary: str) -> str:  # type: ignore[empty-body]
    """
    Hand the user over to a human agent, with a summary of the issue.
    Only do this if the user explicitly asks for a human agent, or if the policy and the tools at hand
    leave no way to solve the issue.

    Args:
        summary: A summary of the user's issue.
    """


def calculate_value(expression: str) -> str:  # type: ignore[empty-body]
    """
    Calculate the value of an arithmetic expression.

    Args:
        expression: The expression, such as '2 + 2': numbers, + - * /, parentheses and spaces.
    """


def transfer(title: str) -> Tool:
    """The tool of the tool class `title`, which is in Python's message for a missing argument, which the model sees."""

    def run(_: Any, /, summary: str) -> str:
        return "Transfer successful"

    run.__qualname__ = f"{title}.transfer_to_human_agents"
    return Tool(
        name="transfer_to_human_agents", changes_state=False, run=run, described=lambda: transfer_to_human_agents
    )


def calculate(title: str, *, bounded: bool = True) -> Tool:
    """The same for `calculate`. Without `bounded` it may never end, as upstream's."""

    def run(_: Any, /, expression: str) -> str:
        return arithmetic.evaluate(expression, bounded=bounded)

    run.__qualname__ = f"{title}.calculate"
    return Tool(name="calculate", changes_state=False, run=run, described=lambda: calculate_value)
