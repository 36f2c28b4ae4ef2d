"""A tool as a domain offers it: its name, whether it changes state, and what a model is told about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """`run(target, **arguments)` does the work; `described()` is a function whose signature and docstring describe it.

    Only tools that change state are run again when a recorded simulation is replayed. `ready` gives a schema that exists
    already, instead of `described`. A tool that is not `shown` can be called, but no model gets its schema.
    """

    name: str
    changes_state: bool
    run: Callable[..., Any]
    described: Callable[[], Callable[..., Any]]
    ready: Callable[[], dict[str, Any]] | None = None
    shown: bool = True

    def schema(self) -> dict[str, Any]:
        """The tool in the format of OpenAI's `tools`."""
        if self.ready is not None:
            return self.ready()
        from harness.tasks.tau2.schema import function_schema

        return function_schema(self.name, self.described())


def table(tools: list[Tool], order: Sequence[str] = ()) -> dict[str, Tool]:
    """Tools by name, in `order` where one is given. Raises ValueError for a name that stands twice or not in the order."""
    found = {tool.name: tool for tool in tools}
    if len(found) != len(tools):
        raise ValueError("a tool's name stands twice")
    if order and sorted(order) != sorted(found):
        raise ValueError("the order names other tools")
    return {name: found[name] for name in order or found}
