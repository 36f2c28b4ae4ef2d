"""Warm workers that each do one job at a time: which worker gets which job, and what happens to a job whose worker died.

Subclasses decide how a worker is started and how messages reach it: processes of this machine, or actors of a cluster.
"""

from __future__ import annotations

import pickle
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.core.errors import EngineError, SpecError
from harness.run.executors.executor import Advanced, Began, Ended, Event, Job, Measured, Progressed, Task, Work

MOST_DEATHS = 3
"""Deaths of workers at one job after which the job has failed."""
WINDOW = 2
"""Jobs in flight per worker: one in hand and one to follow."""
PATIENCE = 4
"""Jobs per worker that may overtake the oldest waiting one because a warm worker does them cheaply."""


def read_work(content: bytes) -> Work:
    """The Work that a worker was sent. Raises SpecError for classes that cannot be imported in this process."""
    what, pickled = pickle.loads(content)
    try:
        work: Work = pickle.loads(pickled)
        return work
    except Exception as error:
        raise SpecError(
            f"{what} cannot be read by a worker ({type(error).__name__}: {error}); put its class into a "
            "module that can be imported, or leave workers out"
        ) from error


class WorkerDied(Exception):  # noqa: N818
    """A worker is gone; the message says how it ended."""


@dataclass(eq=False)
class Worker:
    """`handle` is the subclass's. `ready`: it came up and takes jobs; `affinity`: of its last job; `host`: where it runs."""

    number: int
    handle: Any
    host: str = ""
    ready: bool = False
    job: Task | None = None
    affinity: str = ""

    @property
    def name(self) -> str:
        """For display."""
        return f"{self.host} {self.number}".strip() if self.host else f"worker {self.number}"


class Pool(ABC):
    """`n` workers. Raises SpecError for a number below 1, or more than the work can have."""

    name: str
    """As in the provenance."""
    nobody: str
    """The message when no worker is left."""

    def __init__(self, work: Work, n: int) -> None:
        if n < 1:
            raise SpecError(f"workers is {n}; give a number from 1 on")
        work.check(n)
        self.work = work
        self.n = n
        self.folder = Path()
        self.products = ""
        self.content = b""
        """The work, as bytes."""
        self.workers: list[Worker] = []
        self.n_started = 0
        self.left_out: list[str] = []
        """Workers that cannot take part, each with the reason."""
        self._queue: deque[Task] = deque()
        self._deaths: dict[int, int] = {}
        """Number of a job -> deaths of workers at it."""
        self._stillborn: dict[int, int] = {}
        """Number of a worker -> its deaths before it was ready."""
        self._passed = 0
        """Jobs that have overtaken the oldest waiting one."""
        self._events: deque[Event] = deque()

    @abstractmethod
    def started(self, number: int) -> Worker:
        """Start a worker; if it dies at once, `receive` raises."""

    @abstractmethod
    def send(self, worker: Worker, job: Task) -> None:
        """Give a worker a job; if the worker died, `receive` raises."""

    @abstractmethod
    def ready(self, workers: Sequence[Worker], timeout_s: float | None) -> list[Worker]:
        """Those of the workers that have sent a message; blocks until one has, or for `timeout_s`."""

    @abstractmethod
    def receive(self, worker: Worker) -> Event | None:
        """A worker's next event; None for a message that is none. Raises WorkerDied."""

    @abstractmethod
    def end(self, workers: Sequence[Worker]) -> None:
        """End the workers and all that they started."""

    @property
    def capacity(self) -> int:
        """A job in hand and one to follow for each worker."""
        return WINDOW * self.n

    def start(self, folder: Path, products: str) -> None:
        """Get ready to start workers, each when there is a job for it. Raises SpecError for work that cannot be sent to another process."""
        self.folder, self.products = folder.absolute(), products
        try:
            self.content = pickle.dumps((self.work.what, pickle.dumps(self.work)))
        except Exception as error:
            raise SpecError(
                f"{self.work.what} cannot be sent to a worker ({type(error).__name__}: {error}); leave workers out"
            ) from error
        self.n_started = 0

    def submit(self, job: Task) -> None:
        """Queue a job."""
        self._queue.append(job)
        self._assign()
        self._hire()

    def _hire(self) -> None:
        """Start workers for waiting jobs, up to `n`."""
        while self.n_started < self.n and len(self._queue) > sum(worker.job is None for worker in self.workers):
            self.workers.append(self.started(self.n_started))
            self.n_started += 1
            self._assign()

    def event(self, timeout_s: float | None = None) -> Event | None:
        """The next event of any worker. A worker that died is restarted and its job queued again; at MOST_DEATHS the job has failed.

        Raises EngineError where no worker is left, and errors that concern the whole run.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._events:
            if not self._queue and not any(worker.job for worker in self.workers):
                return None
            self._hire()
            if not self.workers:
                raise EngineError(f"{self.nobody} ({'; '.join(self.left_out) or 'none is there'})")
            listened = [worker for worker in self.workers if worker.job is not None or not worker.ready]
            found = self.ready(listened, None if end is None else max(0.0, end - time.monotonic()))
            for worker in found:
                self._hear(worker)
            if not found and end is not None and time.monotonic() >= end:
                return self._events.popleft() if self._events else None
        return self._events.popleft()

    def close(self) -> None:
        """End the workers; what is in hand is lost and measured again by the next run. Idempotent."""
        workers, self.workers = self.workers, []
        self._queue.clear()
        self.end(workers)

    def _hear(self, worker: Worker) -> None:
        try:
            event = self.receive(worker)
        except WorkerDied as death:
            self._replace(worker, str(death))
            return
        if worker.ready:
            self._stillborn.pop(worker.number, None)
        if isinstance(event, Progressed):
            event = replace(event, worker=worker.name)
        if event is not None:
            self._events.append(event)
        if isinstance(event, Advanced):
            self._deaths.pop(event.number, None)
        elif isinstance(event, Measured) and isinstance(worker.job, Job):
            done = event.row, event.entry.component
            worker.job = replace(worker.job, missing=tuple(place for place in worker.job.missing if place != done))
        elif isinstance(event, Ended):
            self._deaths.pop(event.number, None)
            worker.job = None
        self._assign()

    def _replace(self, worker: Worker, how: str) -> None:
        """Restart a worker that died. The driver has what it had measured of its job; the rest of the job is queued again."""
        job = worker.job
        self._stillborn[worker.number] = 0 if worker.ready else self._stillborn.get(worker.number, 0) + 1
        if self._stillborn[worker.number] >= MOST_DEATHS:
            self.left_out.append(f"{worker.name} ended {MOST_DEATHS} times before it took a job, the last by {how}")
            self.workers.remove(worker)
        else:
            self.workers[self.workers.index(worker)] = self.started(worker.number)
        if job is not None:
            deaths = self._deaths[job.number] = self._deaths.get(job.number, 0) + 1
            if deaths >= MOST_DEATHS:
                self._deaths.pop(job.number)
                self._events.append(Ended(job.number, lost=f"its worker died {deaths} times (the last by {how})"))
            elif isinstance(job, Job) and not job.missing:
                self._events.append(Ended(job.number))
            else:
                self._queue.appendleft(job)
        self._assign()

    def _assign(self) -> None:
        """Give every idle worker a job: one with the affinity of its last, else the oldest (which PATIENCE jobs per worker may overtake)."""
        for worker in self.workers:
            if worker.job is not None or not worker.ready or not self._queue:
                continue
            longest = self._queue[0]
            job = next((one for one in self._queue if one.affinity == worker.affinity), longest)
            if self._passed >= PATIENCE * self.n:
                job = longest
            self._passed = 0 if job is longest else self._passed + 1
            self._queue.remove(job)
            worker.job, worker.affinity = job, job.affinity
            self._events.append(Began(job.number, worker.name))
            self.send(worker, job)
