"""Runs a command and sees to it that none of its processes outlives the harness. A program of its own, stdlib only.

    python guard.py PARENT GRACE_S COMMAND...

Standard input is a pipe from the harness. A byte on it asks for an orderly end: SIGTERM, up to GRACE_S seconds, then SIGKILL. Its end
without a byte (the harness was killed), or another parent, means SIGKILL at once. When the command ends by itself, what
it left behind is killed. Descendants are found through the process table, orphans come here (child subreaper), so neither
a session nor a process group of their own lets one escape. The guard ends last, with the command's exit code.
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
    """Kill and reap what is below, until nothing is: a process may fork while it is looked for."""
    for _ in range(1500):  # half a minute: a process that holds a GPU takes its time
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


def main(parent: int, grace_s: float, command: list[str]) -> int:
    """Run the command to its end, or to ours."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(SUBREAPER, 1, 0, 0, 0)
    stop = False

    def asked(*_: object) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, asked)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def prepare() -> None:
        prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)  # should the guard itself be killed
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
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
