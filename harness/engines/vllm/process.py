"""A server's processes under their guard: starting, listing and ending them. Knows a command and a log file, no HTTP."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.core.errors import EngineError, StateError
from harness.engines.vllm import guard

KILL_S = 45.0
"""Seconds until a guard must have killed everything, beyond the grace it gives."""


class GuardedProcess:
    """A command that runs in a session of its own until `end`, and never longer than this process (guard.py)."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path, *, grace_s: float) -> None:
        self._grace_s = grace_s
        self._swept = False
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            stream = log.open("ab")
        except OSError as error:
            raise StateError(f"cannot write the server's log {log}: {error.strerror or error}") from error
        words = [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), str(grace_s), *command]
        with stream:
            try:
                self._guard = subprocess.Popen(
                    words, stdin=subprocess.PIPE, stdout=stream, stderr=stream, env=dict(env), start_new_session=True
                )
            except OSError as error:
                raise EngineError(f"cannot start {command[0]}: {error.strerror or error}") from error

    @property
    def guard_pid(self) -> int:
        """The guard's process id."""
        return self._guard.pid

    def pids(self) -> list[int]:
        """Every process of the server, as of now."""
        return guard.descendants(self._guard.pid)

    def exit_code(self) -> int | None:
        """None while it runs; else the command's exit code, and then none of its processes is left."""
        code = self._guard.poll()
        if code is not None and code < 0 and not self._swept:
            self._swept = True
            with contextlib.suppress(OSError):  # the guard was killed: its processes are still in its group
                os.killpg(self._guard.pid, signal.SIGKILL)
        return code

    def end(self, *, drain: bool = True) -> None:
        """End the command (`drain`: in good order within its grace period) and wait until all its processes are gone."""
        assert self._guard.stdin is not None
        with contextlib.suppress(OSError):
            if drain and self._guard.poll() is None:
                self._guard.stdin.write(b".")
            self._guard.stdin.close()
        try:
            self._guard.wait(self._grace_s + KILL_S)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        self.exit_code()
