"""Runs a command and ensures that none of its processes outlives the harness. A program of its own, stdlib only.

    python guard.py PARENT GRACE_S COMMAND...

Standard input is a pipe from the harness. A byte on it asks for an orderly end: SIGTERM, up to GRACE_S seconds, then SIGKILL. End of
file without a byte (the harness was killed), or a new parent, means SIGKILL at once. When the command ends by itself, the processes it
left behind are killed. Descendants are found through the process table, and orphans are reparented to the guard (child subreaper), so
they do not escape by a session or process group of their own. The guard ends last, with the command's exit code.

Some supervisors (Ray, epilogs of Slurm) kill the children of a process before the process itself, and so the guard. A second guard,
forked twice so that it is not a child of the harness, then kills the processes of the first one, and ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

SUBREAPER, DEATH_SIGNAL = 36, 1  # of prctl(2)
POLL_S = 0.2
LOOK_S = 1.0
"""Seconds between two checks of the second guard."""


def descendants(root: int) -> list[int]:
    """Every process below `root`, as /proc has it now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                stat = (entry / "stat").read_text()
                parent = int(stat.rpartition(")")[2].split()[1])  # the name in parentheses may hold anything
                children.setdefault(parent, []).append(int(entry.name))
    found, pending = [], [root]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def kill_all() -> None:
    """Kill and reap all descendants, repeatedly, since a process may fork while the table is read."""
    for _ in range(1500):  # half a minute: a process that holds a GPU may take long to die
        below = descendants(os.getpid())
        for pid in below:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not below:
            return
        time.sleep(0.02)


def _started(pid: int) -> tuple[str, str] | None:
    """A process's start time, which distinguishes it from a later one with the same id, and its session; None for one that is gone."""
    with contextlib.suppress(OSError, IndexError):
        fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
        if fields[0] not in ("Z", "X"):
            return fields[19], fields[3]
    return None


def _look_after(guard: int, line: int) -> None:
    """Wait until the guard ends. If it ended without writing a byte, kill its descendants and all processes of its session."""
    known: dict[int, str] = {}
    while not select.select([line], [], [], LOOK_S)[0]:
        for pid in descendants(guard):
            if (found := _started(pid)) is not None:
                known[pid] = found[0]
    if os.read(line, 1):
        return
    for _ in range(1500):
        left = [pid for pid, started in known.items() if (found := _started(pid)) is not None and found[0] == started]
        left += [pid for pid in list(known) for pid in descendants(pid)] if left else []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (found := _started(int(entry.name))) is not None and found[1] == str(guard):
                left.append(int(entry.name))
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if not left:
            return
        time.sleep(0.02)


def second_guard() -> int:
    """Fork the second guard. Returns the end of a pipe to which a byte is written when all processes are gone."""
    guard = os.getpid()
    line, ours = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setsid()
            if os.fork() == 0:
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)
                os.close(ours)
                nothing = os.open(os.devnull, os.O_RDWR)
                for stream in (0, 1, 2):
                    os.dup2(nothing, stream)
                _look_after(guard, line)
            code = 0
        finally:
            os._exit(code)
    os.close(line)
    os.waitpid(child, 0)
    return ours


def main(parent: int, grace_s: float, command: list[str]) -> int:
    """Run the command until it ends, or the harness does. Returns its exit code, 128 + N for signal N."""
    finished = second_guard()  # before this process becomes a subreaper, which would make the second guard its child
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(SUBREAPER, 1, 0, 0, 0)
    stop = False

    def asked(*_: object) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, asked)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def prepare() -> None:
        prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)  # in case the guard itself is killed
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=prepare)
    orderly = False
    while child.poll() is None and not stop:
        if os.getppid() != parent:
            break
        if select.select([0], [], [], POLL_S)[0]:
            orderly = bool(os.read(0, 1))
            break
    if child.poll() is None and (orderly or stop):
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace_s)
    if child.poll() is None:
        child.kill()
    code = child.wait()
    kill_all()
    os.write(finished, b".")
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
