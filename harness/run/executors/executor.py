"""What an executor is asked and what it answers: jobs in, events out in any order. The driver alone holds the run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from harness.checkpoints.identify import Identified
from harness.core.checkpoint import Checkpoint
from harness.core.component import Progress
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
class Advanced:
    """A job has got further, and whoever takes it next goes on from there: deaths before do not count against it."""

    number: int


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing more comes of a job. `lost`: why what was not measured never will be; None where all was.

    `error`: what concerns the whole run (StateError, SpecError).
    """

    number: int
    lost: str | None = None
    error: Exception | None = None


Event = Began | Progressed | Measured | Advanced | Ended


class Task(Protocol):
    """What a pool hands to one of its workers: a Job, or what other work has in its place. `affinity` as a Job has it."""

    @property
    def number(self) -> int:
        """Its own."""
        ...

    @property
    def affinity(self) -> str:
        """Equal for what one warm worker takes cheaply."""
        ...


class Work(Protocol):
    """What the workers of a pool do. It is pickled, and each worker is given it once.

    class Squares:                                     # the smallest one: tasks that only have a number
        what, most = "a square", None
        def check(self, n): pass
        @contextmanager
        def opened(self, *, folder, number, products, progress):
            def done(task):
                progress.advance(items=task.number**2, tokens=0)
                yield Ended(task.number)
            yield done
    """

    @property
    def what(self) -> str:
        """What of it may not be had in a worker, for messages: a component of the spec."""
        ...

    @property
    def most(self) -> int | None:
        """Workers that it can have; None for any number."""
        ...

    def check(self, n: int) -> None:
        """Raises SpecError for what `n` workers cannot do."""
        ...

    def opened(
        self, *, folder: Path, number: int, products: str, progress: Progress
    ) -> AbstractContextManager[Callable[[Any], Iterator[Event]]]:
        """In worker `number`: what it needs is open inside, and gives the events of a task. Raises HarnessError."""
        ...


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
