"""Measures in this process, one checkpoint after the other: the default, and what every worker does inside."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.checkpoints.open import Opener
from harness.core.component import Component, Progress
from harness.core.errors import HarnessError, SpecError
from harness.run.executors.executor import Ended, Event, Job, Measured
from harness.run.ledger import Entry
from harness.run.measure import Served, measure_component
from harness.spec.prepared import Prepared


class Local:
    """The executor without other processes. `opener` is the driver's, or in a worker its own."""

    name = "local"
    capacity = 1

    def __init__(self, prepared: Prepared, opener: Opener, progress: Progress) -> None:
        self._prepared = prepared
        self._opener = opener
        self._progress = progress
        self._folder = Path()
        self._jobs: deque[Iterator[Event]] = deque()

    def start(self, folder: Path, products: str) -> None:
        """Remember the folder."""
        self._folder = folder

    def submit(self, job: Job) -> None:
        """Take a job; it is worked on while events are asked for."""
        self._jobs.append(self.measured(job))

    def event(self, timeout_s: float | None = None) -> Event | None:
        """The next event of the job in hand, which is worked on in this call; `timeout_s` has no effect."""
        while self._jobs:
            found = next(self._jobs[0], None)
            if found is not None:
                return found
            self._jobs.popleft()
        return None

    def measured(self, job: Job) -> Iterator[Event]:
        """Every component that is missing, the cheapest first."""
        wanted = [(number, self._component(number, name)) for number, name in job.missing]
        store = _Handed(self._folder)
        self._opener.identifier.adopt(job.identified)
        if job.following is not None:
            self._opener.models.expect(job.following)
        try:
            with self._opener.open(job.checkpoint) as subject:
                for number, component in sorted(wanted, key=lambda one: one[1].rank):
                    served = Served(self._opener, job.checkpoint) if component.served else None
                    row = self._prepared.rows[number]
                    entry = measure_component(row, component, subject, job.record, store, self._progress, served=served)
                    yield Measured(job.number, number, entry)
        except HarnessError as error:
            yield Ended(job.number, error=error)
            return
        except Exception as error:  # noqa: BLE001 - outside of a component: the checkpoint's cause, not the run's end
            cause = " ".join(str(error).split())[:300]
            yield Ended(job.number, lost=f"unexpected {type(error).__name__}: {cause}")
            return
        yield Ended(job.number)

    def _component(self, number: int, name: str) -> Component:
        return next(one for one in self._prepared.rows[number].components if one.config.name == name)

    def close(self) -> None:
        """Drop the jobs, the one in hand included."""
        self._jobs.clear()


@dataclass(frozen=True)
class Measuring:
    """The work of measuring checkpoints by several workers; its tasks are Jobs."""

    prepared: Prepared
    what = "a component of the spec"

    @property
    def most(self) -> int | None:
        """One, where there is one server."""
        return 1 if self.prepared.served and self.prepared.spec.serve.url is not None else None

    def check(self, n: int) -> None:
        """Raises SpecError for a device or a server that `n` workers cannot share."""
        device = self.prepared.spec.device
        if device.startswith("cuda:"):
            raise SpecError(f"device {device} is one GPU, and workers have one each; set device to cuda or auto")
        if self.most is not None and n > self.most:
            raise SpecError(
                "serve.url is one server with one checkpoint, and several workers would ask it for several; leave workers out"
            )

    @contextmanager
    def opened(
        self, *, folder: Path, number: int, products: str, progress: Progress
    ) -> Iterator[Callable[[Job], Iterator[Event]]]:
        """With an opener, and so models and a server, of its own."""
        opener = Opener(self.prepared.spec.opening, log_folder=folder / "serve" / f"worker-{number}")
        opener.fix_products(products)
        with closing(opener):
            local = Local(self.prepared, opener, progress)
            local.start(folder, products)
            yield local.measured


class _Handed:
    """A Store that returns every measurement unstored: the driver stores it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> Entry | None:
        """None: the driver has looked it up already."""
        return None

    def put(self, entry: Entry) -> Entry:
        """The entry as it is."""
        return entry
