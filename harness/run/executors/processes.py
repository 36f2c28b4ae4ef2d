"""Several warm workers on this machine, one for each GPU or with a share of the cores: each keeps its model and its server."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path

from harness.core.errors import EngineError, SpecError
from harness.run.executors.executor import Ended, Event, Job, Measured
from harness.spec.prepared import Prepared

MOST_DEATHS = 3
"""Of workers at one job, before it is given up."""
WINDOW = 2
"""Jobs a worker: one in hand and one to follow."""
GRACE_S = 10.0
"""Seconds that a worker has to end by itself."""


@dataclass
class _Worker:
    number: int
    process: subprocess.Popen[bytes]
    connection: Connection
    job: Job | None = None
    affinity: str = ""


@dataclass
class Processes:
    """`n` workers. Raises SpecError for a number or a device that cannot be."""

    prepared: Prepared
    n: int
    _folder: Path = field(default_factory=Path)
    _products: str = ""
    _content: bytes = b""
    _workers: list[_Worker] = field(default_factory=list)
    _queue: deque[Job] = field(default_factory=deque)
    _deaths: dict[int, int] = field(default_factory=dict)
    _events: deque[Event] = field(default_factory=deque)

    def __post_init__(self) -> None:
        if self.n < 1:
            raise SpecError(f"workers is {self.n}; give a number from 1 on")
        if self.prepared.spec.device.startswith("cuda:"):
            raise SpecError(
                f"device {self.prepared.spec.device} is one GPU, and workers have one each; set device to cuda or auto"
            )
        if self.prepared.spec.serve.url is not None and self.prepared.served and self.n > 1:
            raise SpecError(
                "serve.url is one server with one checkpoint, and several workers would ask it for several; leave workers out"
            )

    @property
    def capacity(self) -> int:
        """A job in hand and one to follow for each worker."""
        return WINDOW * self.n

    def start(self, folder: Path, products: str) -> None:
        """Start every worker. Raises SpecError for components that cannot be sent to another process."""
        self._folder, self._products = folder.absolute(), products
        try:
            self._content = pickle.dumps(self.prepared)
        except Exception as error:
            raise SpecError(
                f"a component of the spec cannot be sent to a worker ({type(error).__name__}: {error}); leave workers out"
            ) from error
        self._workers = [self._started(number) for number in range(self.n)]

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._queue.append(job)
        self._assign()

    def event(self, timeout_s: float | None = None) -> Event | None:
        """What a worker said first. One that died is started again and its job queued, MOST_DEATHS times at most."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._events:
            busy = [worker for worker in self._workers if worker.job is not None]
            if not busy:
                return None
            left = None if end is None else max(0.0, end - time.monotonic())
            ready = wait([worker.connection for worker in busy], left)
            if not ready:
                return None
            for worker in busy:
                if worker.connection in ready:
                    self._hear(worker)
        return self._events.popleft()

    def close(self) -> None:
        """End the workers and their servers; what is in hand is lost and measured again by the next run."""
        for worker in self._workers:
            worker.connection.close()
            with contextlib.suppress(ProcessLookupError):
                worker.process.terminate()
        end = time.monotonic() + GRACE_S
        for worker in self._workers:
            try:
                worker.process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        self._workers = []
        self._queue.clear()

    def _hear(self, worker: _Worker) -> None:
        assert worker.job is not None
        job = worker.job
        try:
            event: Event = worker.connection.recv()
        except (EOFError, ConnectionError):
            self._replace(worker, job)
            return
        self._events.append(event)
        if isinstance(event, Measured):
            done = event.row, event.entry.component
            worker.job = replace(job, missing=tuple(place for place in job.missing if place != done))
        elif isinstance(event, Ended):
            worker.job = None
            self._deaths.pop(job.number, None)
            self._assign()

    def _replace(self, worker: _Worker, job: Job) -> None:
        """A worker died. What it had measured of the job is with the driver already; the job is done again from there."""
        worker.connection.close()
        code = worker.process.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._workers[self._workers.index(worker)] = self._started(worker.number)
        deaths = self._deaths[job.number] = self._deaths.get(job.number, 0) + 1
        if deaths >= MOST_DEATHS:
            self._deaths.pop(job.number)
            self._events.append(Ended(job.number, lost=f"its worker died {deaths} times (the last by {how})"))
        elif not job.missing:
            self._events.append(Ended(job.number))
        else:
            self._queue.appendleft(job)
        self._assign()

    def _assign(self) -> None:
        """A job for every idle worker: one of those that it takes cheaply, else the one that waits longest."""
        for worker in self._workers:
            if worker.job is not None or not self._queue:
                continue
            job = next((one for one in self._queue if one.affinity == worker.affinity), self._queue[0])
            self._queue.remove(job)
            worker.job, worker.affinity = job, job.affinity
            with contextlib.suppress(ConnectionError):  # a death is heard of when it is listened to
                worker.connection.send(job)

    def _started(self, number: int) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            os.set_inheritable(theirs.fileno(), True)
            arguments = (theirs.fileno(), os.getpid(), self._folder, number, self._products)
            process = subprocess.Popen(
                [sys.executable, "-m", "harness.run.executors.worker", *map(str, arguments)],
                pass_fds=[theirs.fileno()],
                env=_environment(number, self.n),
                stdin=subprocess.DEVNULL,
            )
        connection = Connection(ours.detach())
        try:
            connection.send_bytes(self._content)
        except ConnectionError as error:
            raise EngineError(f"worker {number} ended at once (exit code {process.wait()})") from error
        return _Worker(number, process, connection)


def _environment(number: int, n: int) -> dict[str, str]:
    """A worker's variables: one GPU where there are any, and a share of the cores."""
    env = dict(os.environ)
    given = env.get("CUDA_VISIBLE_DEVICES")
    devices = [str(index) for index in range(_n_gpus())] if given is None else [one for one in given.split(",") if one]
    if devices:
        env["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
    share = max(1, len(os.sched_getaffinity(0)) // n)
    env.setdefault("OMP_NUM_THREADS", str(share))
    env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return env


def _n_gpus() -> int:
    from harness.engines.models.load import count_gpus

    return count_gpus()
