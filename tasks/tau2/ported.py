"""Tools made from the port's classes: the method does the work, the port's Inspect tool has the description."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from harness.tasks.tau2.tool import Tool


def ported(module: ModuleType, name: str, *, changes_state: bool, run: Callable[..., Any] | None = None) -> Tool:
    """The port's tool `name`, described by the function in `module`. `run` stands in for a method that differs."""

    def method(target: Any, /, **arguments: Any) -> Any:
        return getattr(target, name)(**arguments)

    def describe() -> Callable[..., Any]:
        return getattr(module, name)()  # type: ignore[no-any-return]

    return Tool(name=name, changes_state=changes_state, run=run or method, described=describe)


def ported_all(module: ModuleType, *, reads: Iterable[str], writes: Iterable[str]) -> list[Tool]:
    """Several tools, those that only read first."""
    looking = [ported(module, name, changes_state=False) for name in reads]
    return looking + [ported(module, name, changes_state=True) for name in writes]
