"""The protocol of a tracker. One file of this room per tracker; each imports its package when it is made, no earlier."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol

from harness.core.errors import SpecError
from harness.track.row import TrackedRow

MARK = "harness_vector"
"""The column with a row's digest, in trackers whose rows can have text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """One trajectory of one run folder. `id` is stable (hexadecimal, 16 digits): the same folder continues the same tracker run.

    `name` is for display, and ends in the first digits of the id; `config` has no paths and no settings of a server.
    """

    id: str
    name: str
    group: str
    config: Mapping[str, str]


class TrackerRun(Protocol):
    """A tracker's run, opened or continued. Methods raise whatever the package raises."""

    def seen(self) -> set[tuple[int, str]]:
        """`TrackedRow.mark` of every row that is in the tracker, read from the tracker."""

    def write(self, row: TrackedRow) -> None:
        """Add a row."""

    def report(self, path: Path) -> None:
        """Store the report, an HTML file, as an artifact; called only where `keeps_reports`."""

    def finish(self) -> None:
        """Wait until everything is written, and end the run."""


class Tracker(Protocol):
    """Made on the main thread before anything is measured, used from one thread of its own.

    The constructor takes `place` (what stands after the colon in `--track NAME:PLACE`, or None) and `folder` (the run folder, or None for a
    live environment without one), and raises SpecError where the tracker cannot be used.

        class Printed:
            keeps_reports = False
            def open(self, identity: RunIdentity) -> PrintedRun: ...
    """

    keeps_reports: bool

    def open(self, identity: RunIdentity) -> TrackerRun:
        """The run of a trajectory, continued where the tracker has it already."""


def package(module: str, *, tracker: str, install: str) -> ModuleType:
    """Import a tracker's package. Raises SpecError with what to install, or with why it does not import."""
    try:
        return importlib.import_module(module)
    except Exception as error:  # a package that is at odds with another may raise anything
        if isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]:
            words = "its package is not installed"
        else:
            words = f"its package does not import ({error})"
        raise SpecError(f"--track {tracker}: {words}; pip install {install}, or leave the tracker out") from error
