"""Several warm workers on this machine, one for each GPU or with a share of the cores: each keeps its model and its server."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import NamedTuple

from harness.core.errors import HarnessError
from harness.core.own_process import python
from harness.run.executors.executor import Event, Task
from harness.run.executors.pool import Pool, Worker, WorkerDied

GRACE_S = 10.0
"""Seconds after SIGTERM before a worker is killed."""
ASKS, READY = "asks", "ready"
"""A worker's first messages: a request for the work, then that it takes jobs (or a HarnessError about the work)."""


class _Handle(NamedTuple):
    process: subprocess.Popen[bytes]
    connection: Connection


class Processes(Pool):
    """`n` processes of this machine."""

    name = "processes"
    nobody = "no worker of this machine could begin"

    def started(self, number: int) -> Worker:
        """A new process in a process group of its own (so that Ctrl-C does not reach it), which asks for the work once it is up."""
        ours, theirs = socket.socketpair()
        with theirs:
            os.set_inheritable(theirs.fileno(), True)
            arguments = (theirs.fileno(), os.getpid(), self.folder, number, self.products)
            process = subprocess.Popen(
                [*python("harness.run.executors.worker"), *map(str, arguments)],
                pass_fds=[theirs.fileno()],
                env=_environment(number, self.n),
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        return Worker(number, _Handle(process, Connection(ours.detach())))

    def send(self, worker: Worker, job: Task) -> None:
        """Send the job over the worker's socket."""
        with contextlib.suppress(ConnectionError):  # `receive` reports that the worker died
            worker.handle.connection.send(job)

    def ready(self, workers: Sequence[Worker], timeout_s: float | None) -> list[Worker]:
        """Those whose socket has something to read."""
        found = wait([worker.handle.connection for worker in workers], timeout_s)
        return [worker for worker in workers if worker.handle.connection in found]

    def receive(self, worker: Worker) -> Event | None:
        """The next message. Raises WorkerDied, and the HarnessError of a worker that cannot do the work."""
        process, connection = worker.handle
        try:
            if worker.ready:
                event: Event = connection.recv()
                return event
            said = connection.recv()
            if said == ASKS:
                connection.send_bytes(self.content)
        except (EOFError, OSError):  # also in the middle of a message
            connection.close()
            code = _ended(process)
            raise WorkerDied(f"signal {-code}" if code < 0 else f"exit code {code}") from None
        if isinstance(said, HarnessError):
            raise said
        worker.ready = said == READY
        return None

    def end(self, workers: Sequence[Worker]) -> None:
        """Send SIGTERM, wait GRACE_S, then kill."""
        for worker in workers:
            worker.handle.connection.close()
            with contextlib.suppress(ProcessLookupError):
                worker.handle.process.terminate()
        end = time.monotonic() + GRACE_S
        for worker in workers:
            _ended(worker.handle.process, wait_s=max(0.1, end - time.monotonic()))


def _ended(process: subprocess.Popen[bytes], *, wait_s: float = GRACE_S) -> int:
    """The return code of a process that is ending; it is killed after `wait_s`."""
    try:
        return process.wait(wait_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _environment(number: int, n: int) -> dict[str, str]:
    """A worker's environment variables: one GPU where there are any, and a share of the cores."""
    from harness.engines.models.load import count_gpus

    env = dict(os.environ)
    given = env.get("CUDA_VISIBLE_DEVICES")
    devices = (
        [str(index) for index in range(count_gpus())] if given is None else [one for one in given.split(",") if one]
    )
    if devices:
        env["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
    env.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // n)))
    env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return env
