"""Which database records differ, after a failed simulation, from those after the reference actions, and the cause where its file has none.

Replays with the domain's own tools, no model. There is no result for what cannot be replayed here, or whose reward differs from the
recorded one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.core.errors import HarnessError
from harness.core.tau2.fault import Fault
from harness.core.tau2.simulation import Simulation
from harness.tau2.recordings.read import Opened, open_recording

MOST = 20
"""Fields of one simulation that are shown."""


class Replays:
    """The simulations of one folder or file, opened with the first request."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: Opened | None = None
        self._by_key: dict[tuple[str, str, int | None], Simulation] = {}
        self.why_not: str | None = None

    def _open(self) -> Opened | None:
        if self._opened is None and self.why_not is None:
            try:
                self._opened = open_recording(self._path, domain=None, data=None, tasks_file=None)
            except HarnessError as error:
                self.why_not = str(error)
                return None
            self.why_not = self._opened.why_not
            self._by_key = {
                (one.id, one.task_id, one.trial): one
                for one in self._opened.recording.simulations
                if isinstance(one, Simulation)
            }
        return self._opened if self.why_not is None else None

    def _found(self, line: Mapping[str, Any]) -> tuple[Opened, Simulation] | None:
        opened = self._open()
        trial = line.get("trial")
        key = (str(line.get("id")), str(line.get("task_id")), trial if isinstance(trial, int) else None)
        simulation = self._by_key.get(key)
        return None if opened is None or simulation is None else (opened, simulation)

    def fault(self, line: Mapping[str, Any]) -> Fault | None:
        """The cause of a failure for which the file has none; None where it cannot be determined."""
        found = self._found(line)
        now = None if found is None else found[0].verdict(found[1])
        return None if now is None or now.changed else now.fault

    def records(self, line: Mapping[str, Any]) -> list[str]:
        """A sentence per field that differs, at most MOST."""
        found = self._found(line)
        every = [] if found is None else found[0].differing(found[1])
        more = [f"and {len(every) - MOST} more fields"] if len(every) > MOST else []
        return [*map(str, every[:MOST]), *more]
