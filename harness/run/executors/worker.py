"""A process that measures jobs for a driver. Started by `processes.py` as a program; its only argument is the number of a socket.

It ends when the driver closes the socket or is gone, however it went; nothing that it started is left.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from harness.checkpoints.open import Opener
from harness.run.executors.executor import Progressed
from harness.run.executors.local import Local

GRACE_S = 3.0
"""Seconds to end by itself once the driver is gone."""
LOOK_EVERY_S = 0.5


class Progress:
    """Tells the driver, at most every LOOK_EVERY_S seconds: a message costs more than a small batch."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._items = self._tokens = 0
        self._told = time.monotonic()

    def advance(self, *, items: int, tokens: int) -> None:
        """Add to what the driver is told next."""
        self._items += items
        self._tokens += tokens
        if time.monotonic() - self._told >= LOOK_EVERY_S:
            self.tell()

    def tell(self) -> None:
        """Tell it now."""
        if self._items or self._tokens:
            self._connection.send(Progressed(self._items, self._tokens))
        self._items = self._tokens = 0
        self._told = time.monotonic()


def work(connection: Connection, folder: Path, number: int, products: str) -> None:
    """Measure what comes, until the driver closes the socket."""
    prepared = pickle.loads(connection.recv_bytes())
    opener = Opener(prepared.spec.opening, log_folder=folder / "serve" / f"worker-{number}")
    progress = Progress(connection)
    with contextlib.closing(opener):
        opener.fix_products(products)
        local = Local(prepared, opener, progress)
        local.start(folder, products)
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                for event in local.measured(connection.recv()):
                    progress.tell()
                    connection.send(event)


def _end_with(parent: int) -> None:
    """End this process when the driver is gone, in good order where it can."""
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def main() -> None:
    """The program."""
    descriptor, parent, folder, number, products = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the driver as well, which ends its workers
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    work(Connection(int(descriptor)), Path(folder), int(number), products)


if __name__ == "__main__":
    main()
