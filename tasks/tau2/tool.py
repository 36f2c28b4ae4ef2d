"""A tool as a domain offers it: its name, whether it changes state, and what a model is told about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """`run(target, **arguments)` does the work; `described()` is a function whose signature and docstring describe it.

    Only tools that change state are run again when a recorded simulation is replayed.
    """

    name: str
    changes_state: bool
    run: Callable[..., Any]
    described: Callable[[], Callable[..., Any]]

    def schema(self) -> dict[str, Any]:
        """The tool in the format of OpenAI's `tools`."""
        from harness.tasks.tau2.schema import function_schema

        return function_schema(self.name, self.described())


def table(tools: list[Tool]) -> dict[str, Tool]:
    """Tools by name. Raises ValueError for a name that stands twice."""
    found = {tool.name: tool for tool in tools}
    if len(found) != len(tools):
        raise ValueError("a tool's name stands twice")
    return found
