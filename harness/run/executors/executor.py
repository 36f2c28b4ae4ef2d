"""What an executor is asked and what it answers: jobs in, events out in any order. The driver alone holds the run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.checkpoints.identify import Identified
from harness.core.checkpoint import Checkpoint
from harness.core.vector import CheckpointRecord
from harness.run.ledger import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is missing of one checkpoint: `missing` are (number of the row, name of the component).

    `identified`: the files that it was identified by, so that nobody hashes them again. `following`: the checkpoint that comes
    next, which may be read from disk already. `affinity`: equal for checkpoints that one warm worker takes cheaply.
    """

    number: int
    checkpoint: Checkpoint
    record: CheckpointRecord
    identified: Identified
    missing: tuple[tuple[int, str], ...]
    following: Checkpoint | None = None
    affinity: str = ""


@dataclass(frozen=True, slots=True)
class Began:
    """A worker has taken a job."""

    number: int
    worker: str


@dataclass(frozen=True, slots=True)
class Progressed:
    """Items are finished, and tokens went through a model for them. `worker`: whose, where there are several."""

    items: int
    tokens: int
    worker: str | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """One component of a job is finished; `entry` is not in the ledger yet."""

    number: int
    row: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing more comes of a job. `lost`: why what was not measured never will be; None where all was.

    `error`: what concerns the whole run (StateError, SpecError).
    """

    number: int
    lost: str | None = None
    error: Exception | None = None


Event = Began | Progressed | Measured | Ended


class Executor(Protocol):
    """Measures jobs. Ends with `close`, after which nothing of it is left."""

    name: str
    """As provenance has it."""

    @property
    def capacity(self) -> int:
        """Jobs that may be in flight; the driver waits for events beyond it."""
        ...

    def start(self, folder: Path, products: str) -> None:
        """Before the first job: the run folder, and the library of its float32 products."""
        ...

    def submit(self, job: Job) -> None:
        """Take a job. Returns at once."""
        ...

    def event(self, timeout_s: float | None = None) -> Event | None:
        """The next event; None where none came in time. Blocks while a job is in flight and none is there."""
        ...

    def close(self) -> None:
        """End whatever it started. Idempotent."""
        ...
