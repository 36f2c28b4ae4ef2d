"""The checkpoints of a running training, each as soon as it is complete. Polls the folder; opens no weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness.checkpoints.whole import check_whole
from harness.core.checkpoint import Checkpoint
from harness.core.errors import CheckpointError

State = tuple[tuple[str, int, int], ...]
"""Name, bytes and time of change (ns) of every file of a folder."""


class Watch:
    """An iterable of checkpoints, each once; those that are complete at one poll come in step order.

    A checkpoint is complete when its weights are all there and no file of its folder changed for `settle_s` seconds. `find` lists
    what is there now and may raise CheckpointError while there is nothing. It polls every `interval_s` seconds and ends when
    nothing came for `idle_timeout_s`; None: never. `waiting` then has the checkpoints that never became complete, and why. A
    folder that is removed before its turn (trainers keep only the newest) is skipped and named in `removed`. With `ticks` every
    poll without a new checkpoint yields None.
    """

    def __init__(
        self,
        find: Callable[[], Sequence[Checkpoint]],
        *,
        interval_s: float = 10.0,
        settle_s: float = 10.0,
        idle_timeout_s: float | None = None,
        ticks: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._find = find
        self._interval_s = interval_s
        self._settle_s = settle_s
        self._idle_timeout_s = idle_timeout_s
        self._ticks = ticks
        self._sleep = sleep
        self._seen: dict[Path, tuple[State, float]] = {}
        self._done: set[Path] = set()
        self.waiting: dict[str, str] = {}
        self.removed: list[str] = []

    def __iter__(self) -> Iterator[Checkpoint | None]:
        idle_since = time.monotonic()
        while True:
            ready = self._ready()
            for checkpoint in ready:
                self._done.add(checkpoint.folder)
                if not checkpoint.folder.exists():
                    self.removed.append(checkpoint.label)
                    continue
                yield checkpoint
                idle_since = time.monotonic()
            if ready:
                continue  # others may have come while these were measured
            if self._idle_timeout_s is not None and time.monotonic() - idle_since >= self._idle_timeout_s:
                return
            if self._ticks:
                yield None
            self._sleep(self._interval_s)

    def _ready(self) -> list[Checkpoint]:
        """What is whole and was not yielded yet."""
        self.waiting = {}
        try:
            found = self._find()
        except CheckpointError as error:
            self.waiting["."] = str(error)
            return []
        ready = []
        for checkpoint in found:
            if checkpoint.folder in self._done:
                continue
            why = self._unfinished(checkpoint)
            if why is None:
                ready.append(checkpoint)
            else:
                self.waiting[checkpoint.label] = why
        return ready

    def _unfinished(self, checkpoint: Checkpoint) -> str | None:
        """Why it is not yet whole; None when it is."""
        try:
            state = _state(checkpoint.folder)
            check_whole(checkpoint)
        except CheckpointError as error:
            return str(error)
        except OSError as error:
            return f"cannot read {checkpoint.folder}: {error.strerror or error}"
        now = time.monotonic()
        before, since = self._seen.get(checkpoint.folder, (None, now))
        if before != state:
            self._seen[checkpoint.folder] = state, now
            since = now
        age_s = time.time() - max((changed for _, _, changed in state), default=0) / 1e9
        if now - since >= self._settle_s or age_s >= self._settle_s:
            return None
        return f"files of {checkpoint.label} changed less than {self._settle_s:g} s ago"


def _state(folder: Path) -> State:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return tuple((path.name, (stat := path.stat()).st_size, stat.st_mtime_ns) for path in files)
