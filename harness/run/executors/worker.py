"""A process that does jobs for a driver. Started by `processes.py` as a program, with the arguments: file descriptor of a socket,
process id of the driver, run folder, number of the worker, library of float32 products.

It ends, with all that it started, when the driver closes the socket or ends in any way.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

from harness.core.errors import HarnessError
from harness.core.measurement import failed
from harness.run.executors.executor import Ended, Event, Measured, Progressed
from harness.run.executors.pool import read_work
from harness.run.executors.processes import ASKS, READY

GRACE_S = 3.0
"""Seconds to end in good order once the driver is gone."""
LOOK_EVERY_S = 0.5


class Progress:
    """Reports to the driver, at most every LOOK_EVERY_S seconds: a message costs more than a small batch. Thread-safe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._telling = threading.RLock()
        self._items = self._tokens = 0
        self._told = time.monotonic()

    def advance(self, *, items: int, tokens: int) -> None:
        """Add to the next report."""
        with self._telling:
            self._items += items
            self._tokens += tokens
            if time.monotonic() - self._told >= LOOK_EVERY_S:
                self.send()

    def send(self, event: Event | None = None) -> None:
        """Report now, then send an event. If the driver is gone nothing is raised: reading the next job ends the worker."""
        with self._telling, contextlib.suppress(ConnectionError):
            if self._items or self._tokens:
                self._connection.send(Progressed(self._items, self._tokens))
            self._items = self._tokens = 0
            self._told = time.monotonic()
            if event is not None:
                self._connection.send_bytes(_packed(event))


def work(connection: Connection, folder: Path, number: int, products: str) -> None:
    """Do jobs until the driver closes the socket."""
    content = None
    with contextlib.suppress(EOFError, OSError):
        connection.send(ASKS)
        content = connection.recv_bytes()
    if content is None:
        return  # the driver is gone
    progress = Progress(connection)
    with contextlib.ExitStack() as stack:
        try:
            work = read_work(content)
            done = stack.enter_context(work.opened(folder=folder, number=number, products=products, progress=progress))
        except HarnessError as error:
            connection.send(error)
            return
        with contextlib.suppress(ConnectionError):
            connection.send(READY)
        while (job := _next(connection)) is not None:
            for event in done(job):
                progress.send(event)


def _next(connection: Connection) -> Any:
    """The next job; None where the driver is gone, also in the middle of a message."""
    try:
        return connection.recv()
    except (EOFError, OSError):
        return None


def _packed(event: Event) -> bytes:
    """The pickled event; one that cannot be pickled becomes a failure that says so."""
    try:
        return pickle.dumps(event)
    except Exception as error:  # noqa: BLE001 - whatever a plugin put in
        why = f"what was measured cannot be sent by a worker ({type(error).__name__}: {error}); leave workers out"
    if not isinstance(event, Measured):
        return pickle.dumps(Ended(event.number, lost=why) if isinstance(event, Ended) else None)
    was = event.entry.measurement
    nothing = failed(was.metric, why, n_items=was.n_items, higher_is_better=was.higher_is_better)
    entry = event.entry.model_copy(update={"measurement": nothing, "table": None})
    return pickle.dumps(replace(event, entry=entry))


def _end_with(parent: int) -> None:
    """End this process when the driver is gone, in good order where it can."""
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once: the driver and `_end_with` may both send it
    raise SystemExit(0)


def main() -> None:
    """The program."""
    descriptor, parent, folder, number, products = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the driver as well, which ends its workers
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    connection = Connection(int(descriptor))
    os.set_inheritable(int(descriptor), False)
    os.register_at_fork(
        after_in_child=connection.close
    )  # else a child's copy keeps the socket open after this process died
    try:
        work(connection, Path(folder), int(number), products)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending already


if __name__ == "__main__":
    main()
