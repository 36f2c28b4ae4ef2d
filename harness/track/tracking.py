"""Sends a run's vectors to its trackers, in the background: a tracker that is slow or fails causes a warning, never a lost measurement.

The same vectors may be offered repeatedly (all of them after a restart); each tracker is sent those that it does not have.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import queue
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import harness
from harness.core.journal import write_atomically
from harness.core.place import Place
from harness.core.secret import hide
from harness.core.vector import RewardVector
from harness.track.kinds import trackers_of
from harness.track.row import TrackedRow, row_of, secrets
from harness.track.tracker import RunIdentity, Tracker, TrackerRun

IDENTITY_FILE = "track.json"
PATIENCE_S = 60.0
"""Seconds that the end of a run waits for trackers."""
_ADDRESS = re.compile(r"://[^/@\s]+@")
"""An address with a user name or a password in it."""
AGAIN_S = 30.0
"""Seconds after a tracker's failure before the next attempt."""
Tell = Callable[[str], None]


class Tracking:
    """The trackers of one run folder (`folder` None: of a live environment without one).

    The constructor makes the trackers and raises SpecError where one cannot be used. Nothing raises later: `tell` gets one warning per
    tracker, from the thread that calls `see` or `close`.
    """

    def __init__(
        self, wanted: Sequence[str], *, folder: Path | None, tell: Tell, patience_s: float = PATIENCE_S
    ) -> None:
        self._folder = folder
        self._tell = tell
        self._patience_s = patience_s
        self._trackers = trackers_of(wanted, folder=folder)
        self._writers: list[_Writer] = []
        self._id: str | None = None
        if self._trackers:
            atexit.register(self.close)

    def see(self, vectors: Iterable[RewardVector]) -> None:
        """Offer vectors, which may have been offered before. Returns at once; call it while the run folder is locked."""
        if not self._trackers:
            return
        found = list(vectors)
        if not found:
            return
        if not self._writers:
            self._id = self._id or _identity(self._folder)
            self._writers = [
                _Writer(name, tracker, run_id=self._id, folder=self._folder) for name, tracker in self._trackers.items()
            ]
        for writer in self._writers:
            writer.offer(found)
        self._tell_all()

    def close(self) -> None:
        """End the trackers' runs, with the report, and wait for that. `see` opens them again."""
        deadline = time.monotonic() + self._patience_s
        for writer in self._writers:
            writer.end()
        for writer in self._writers:
            writer.wait(max(0.0, deadline - time.monotonic()))
        self._tell_all()
        self._writers = []
        atexit.unregister(self.close)

    def _tell_all(self) -> None:
        for writer in self._writers:
            while not writer.said.empty():
                self._tell(writer.said.get())


class _Writer:
    """One tracker's thread; a daemon, so that a tracker that hangs does not keep the process from ending."""

    def __init__(self, name: str, tracker: Tracker, *, run_id: str, folder: Path | None) -> None:
        self._name = name
        self._tracker = tracker
        self._run_id = run_id
        self._folder = folder
        self.said: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._warned = False
        self._offered: queue.SimpleQueue[list[RewardVector] | None] = queue.SimpleQueue()
        self._runs: dict[str, TrackerRun] = {}
        self._seen: dict[str, set[tuple[int, str]]] = {}
        self._new: set[str] = set()
        """Trajectories with newly written rows."""
        self._missing: dict[Place, TrackedRow] = {}
        """Rows that are not written yet."""
        self._again = 0.0
        """Monotonic time of the next attempt after a failure; there is one at the end in any case."""
        self._thread = threading.Thread(target=self._work, name=f"track-{name}", daemon=True)
        self._thread.start()

    def offer(self, vectors: list[RewardVector]) -> None:
        """Queue vectors; those that the tracker does not have are written."""
        self._offered.put(vectors)

    def end(self) -> None:
        """End the thread after the queued vectors."""
        self._offered.put(None)

    def wait(self, seconds: float) -> None:
        """Wait for the thread, at most so many seconds; warns if it has not ended."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._warn(f"did not finish within {seconds:.0f} s")

    def _work(self) -> None:
        while (vectors := self._offered.get()) is not None:
            for vector in vectors:
                self._try(lambda vector=vector: self._take(vector), f"step {vector.step} of {vector.trajectory}")  # type: ignore[misc]
            if time.monotonic() >= self._again:
                self._write_all(dict(self._missing))
        if self._missing:
            self._write_all(dict(self._missing))
        self._report()
        for trajectory, run in self._runs.items():
            self._try(run.finish, f"the end of {trajectory}")

    def _take(self, vector: RewardVector) -> None:
        row = row_of(vector)
        self._missing[row.place] = row

    def _write_all(self, rows: dict[Place, TrackedRow]) -> None:
        """Write rows up to the first failure, so that an unreachable server costs one timeout; the next attempt is after AGAIN_S."""
        for place, row in rows.items():
            if not self._try(lambda row=row: self._write(row), f"step {row.step} of {place.trajectory}"):  # type: ignore[misc]
                self._again = time.monotonic() + AGAIN_S
                return
            del self._missing[place]

    def _write(self, row: TrackedRow) -> None:
        run = self._runs.get(row.place.trajectory)
        if run is None:
            run = self._tracker.open(self._identity_of(row))
            self._runs[row.place.trajectory] = run
        if row.place.trajectory not in self._seen:
            self._seen[row.place.trajectory] = run.seen()
        if row.mark in self._seen[row.place.trajectory]:
            return
        self._new.add(row.place.trajectory)
        run.write(row)
        self._seen[row.place.trajectory].add(row.mark)

    def _identity_of(self, row: TrackedRow) -> RunIdentity:
        digest = hashlib.sha256(f"{self._run_id}/{row.place.trajectory}".encode("utf-8", "surrogatepass")).hexdigest()[
            :16
        ]
        group = self._run_id[:8] if self._folder is None else self._folder.resolve().name
        return RunIdentity(
            id=digest,
            name=f"{group}-{row.place.trajectory}-{digest[:6]}",
            group=group,
            config={
                "trajectory": row.place.trajectory,
                "group": group,
                "harness": harness.__version__,
                **{f"variables.{name}": value for name, value in row.variables.items()},
            },
        )

    def _report(self) -> None:
        """Store the run folder's report in the tracker runs that got new rows."""
        if self._folder is None or not self._tracker.keeps_reports or not self._new or self._missing:
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "report.html"
            if not self._try(lambda: path.write_bytes(_report_of(self._folder)), "the report"):
                return
            for trajectory in sorted(self._new):
                self._try(lambda run=self._runs[trajectory]: run.report(path), "the report")  # type: ignore[misc]

    def _try(self, act: Callable[[], object], what: str) -> bool:
        try:
            act()
        except BaseException as error:  # noqa: BLE001  (whatever a tracker raises, an exit too, costs a warning)
            self._warn(f"failed at {what} ({type(error).__name__}: {' '.join(str(error).split())[:300]})")
            return False
        return True

    def _warn(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            words = f"tracker {self._name} {what}; nothing that was measured is lost, and the same command run again writes what it lacks"
            self.said.put(hide(_ADDRESS.sub("://***@", words), secrets()))


def _identity(folder: Path | None) -> str:
    """The id of a run folder, created when it is first tracked and stored in it. Raises StateError."""
    if folder is None:
        return uuid.uuid4().hex
    path = folder / IDENTITY_FILE
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["id"]
        if isinstance(known, str) and known:
            return known
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there yet, or unreadable
    made = uuid.uuid4().hex
    write_atomically(path, json.dumps({"schema": "harness.track/1", "id": made}).encode() + b"\n")
    return made


def _report_of(folder: Path | None) -> bytes:
    from harness.report.data import Wanted
    from harness.report.page import write_page

    assert folder is not None
    return write_page(Wanted(paths=(folder,)), max_bytes=20_000_000)
