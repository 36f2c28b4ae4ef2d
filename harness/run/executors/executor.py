"""The protocol of executors: jobs in, events out in any order. The driver alone writes to the run folder."""

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

    `identified`: the files that it was identified by, so that a worker need not hash them again. `following`: the checkpoint that
    comes next, whose files may be read ahead. `affinity`: equal for checkpoints that one warm worker measures cheaply in turn.
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
    """A job has stored progress that another worker resumes from: earlier deaths of its workers no longer count against it."""

    number: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A job's last event. `lost`: why its remaining components were not measured; None where all were.

    `error`: an error that concerns the whole run (StateError, SpecError).
    """

    number: int
    lost: str | None = None
    error: Exception | None = None


Event = Began | Progressed | Measured | Advanced | Ended


class Task(Protocol):
    """What a pool gives to one of its workers: a Job, or the unit of other Work. `affinity` as in Job."""

    @property
    def number(self) -> int:
        """Unique within the pool."""
        ...

    @property
    def affinity(self) -> str:
        """Equal for tasks that one warm worker does cheaply in turn."""
        ...


class Work(Protocol):
    """What the workers of a pool do. It is pickled, and sent once to each worker.

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
        """For messages: the part that may not be importable or picklable in a worker, such as "a component of the spec"."""
        ...

    @property
    def most(self) -> int | None:
        """Workers that it can have; None for any number."""
        ...

    def check(self, n: int) -> None:
        """Raises SpecError if `n` workers cannot do it."""
        ...

    def opened(
        self, *, folder: Path, number: int, products: str, progress: Progress
    ) -> AbstractContextManager[Callable[[Any], Iterator[Event]]]:
        """In worker `number`: a context in which its resources are open, and a function from a task to its events.

        Raises HarnessError.
        """
        ...


class Executor(Protocol):
    """Measures jobs. `close` ends every process and server that it started."""

    name: str
    """As in the provenance."""

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
        """The next event; None where none came within `timeout_s`, or no job is in flight. `timeout_s` None: no limit."""
        ...

    def close(self) -> None:
        """End every process and server that it started. Idempotent."""
        ...
