"""The installed Inspect: its version and its loader of tasks."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from harness.core.errors import SpecError
from harness.tasks.suites.inspect_cards import INSTALL

LEAST = (0, 3, 285)
"""The first release whose internal interfaces are the ones used here: resuming a run, and causes in a log."""


def inspect_version() -> str:
    """The installed Inspect. Raises SpecError where there is none, or one that is too old."""
    try:
        found = version("inspect_ai")
    except PackageNotFoundError as error:
        raise SpecError(f"kind: inspect needs Inspect AI; {INSTALL}") from error
    numbers = tuple(int(part) for part in found.split(".")[:3] if part.isdigit())
    if numbers < LEAST:
        raise SpecError(
            f"kind: inspect needs inspect_ai {'.'.join(map(str, LEAST))} or later, and {found} is installed; {INSTALL}"
        )
    return found


def loader() -> Any:
    """Inspect's module that finds tasks. Raises SpecError where it does not load."""
    try:
        return importlib.import_module("inspect_ai._eval.loader")
    except ImportError as error:
        raise SpecError(f"kind: inspect needs Inspect AI, which does not load ({error}); {INSTALL}") from error
