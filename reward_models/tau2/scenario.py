"""What a task tells the simulated user: its texts, and which of them are known facts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.core.tau2.task import Task


def scenario_text(task: Task) -> str:
    """Everything the simulated user is told, as one text."""
    scenario = task.user_scenario
    return "\n".join(_texts([scenario.get("persona"), scenario.get("instructions"), task.ticket]))


def known_info(task: Task) -> str:
    """The facts about themselves that the simulated user is told; a scenario without parts is one."""
    instructions = task.user_scenario.get("instructions")
    if isinstance(instructions, Mapping):
        return "\n".join(_texts([instructions.get("known_info")]))
    return "\n".join(_texts([instructions]))


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = [text for key, text in value.items() if key != "domain"]
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else []
