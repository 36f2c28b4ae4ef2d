"""Kills a server whose engine is alive and does not answer, so that requests to it fail and the server is restarted.

/health reports engines that died, not one that is stopped or stuck. So the engine itself is polled, through an endpoint that it answers
between two steps and that does not disturb generation.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.core.errors import EngineError
from harness.engines.vllm.api import NoAnswerError
from harness.engines.vllm.server import ENDED_BY_US, VllmServer

EVERY_S = 3.0
ANSWER_S = 10.0
"""Seconds within which an engine answers unless it is in the middle of a long step."""
IDLE_SHARE = 0.02
"""Processor seconds per second below which a process that does not answer counts as idle."""
STUCK_S = 600.0
"""Seconds without an answer after which even a busy engine counts as stuck."""


class Watch:
    """Watches a running server, in a thread, until `stop`."""

    def __init__(
        self, server: VllmServer, *, every_s: float = EVERY_S, answer_s: float = ANSWER_S, stuck_s: float = STUCK_S
    ) -> None:
        self._server = server
        self._every_s, self._answer_s, self._stuck_s = every_s, answer_s, stuck_s
        self._over = threading.Event()
        self._held = 0
        self.ended_it = False
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within the block the engine is not polled: reading files into it may take any time."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    def stop(self) -> None:
        """End the watch."""
        self._over.set()

    def _look(self) -> None:
        silent_since: float | None = None
        idle = 0
        while not self._over.wait(self._every_s):
            if self._held:
                silent_since, idle = None, 0
                continue
            try:
                api, pids = self._server.api, self._server.pids()
                before, started = processor_s(pids[1:] or pids), time.monotonic()
                if api.engine_answers(timeout_s=self._answer_s) is not None or not stopped(pids):
                    silent_since, idle = None, 0
                    continue
                self._end("a process of it is stopped")  # the engine cannot be polled, but /proc shows this
                return
            except NoAnswerError:
                now = time.monotonic()
                silent_since = silent_since or started
            except EngineError:  # it was ended meanwhile
                return
            if self._held or self._over.is_set():
                continue
            if stopped(pids):
                self._end(f"a process of it is stopped, and there was no answer for {now - silent_since:.0f} s")
                return
            quiet = processor_s(pids[1:] or pids) - before < IDLE_SHARE * (now - started)
            # A refused connection comes back at once and says that the server is ending by itself.
            idle = idle + 1 if quiet and now - started > self._answer_s / 2 else 0
            if idle >= 2 or now - silent_since > self._stuck_s:
                self._end(f"there was no answer for {now - silent_since:.0f} s")
                return

    def _end(self, why: str) -> None:
        self.ended_it = True
        with contextlib.suppress(OSError), self._server.log.open("a") as log:
            log.write(f"\nEngineError: the engine hangs and {ENDED_BY_US}: {why}\n")
        for pid in self._server.pids():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def stopped(pids: Sequence[int]) -> bool:
    """Whether one of the processes is stopped by a signal, as /proc has it now."""
    return any(_stat(pid, lambda fields: fields[0] in ("T", "t")) for pid in pids)


def processor_s(pids: Sequence[int]) -> float:
    """Seconds of processor time that the processes have used."""
    tick = os.sysconf("SC_CLK_TCK")
    return sum(_stat(pid, lambda fields: (int(fields[11]) + int(fields[12])) / tick) for pid in pids)


def _stat(pid: int, read: Callable[[list[str]], float]) -> float:
    """`read` of the fields after the name in /proc/PID/stat; 0 for a process that is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = Path(f"/proc/{pid}/stat").read_text()
        return read(text.rpartition(")")[2].split())  # the name in parentheses may hold anything
    return 0
