"""Processes under the guard: none outlives the one that started it, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.engines.vllm.process import GuardedProcess

# Leaves a child in a session of its own and an orphan behind, says who they are, and waits.
FAMILY = """
import os, subprocess, sys, time
subprocess.Popen(["sleep", "600"], start_new_session=True)
if os.fork() == 0:
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
os.wait()
print("ready", flush=True)
time.sleep(600)
"""


def start(log: Path, code: str = FAMILY, *, grace_s: float = 5.0) -> GuardedProcess:
    return GuardedProcess([sys.executable, "-c", code], os.environ, log, grace_s=grace_s)


def wait_for(word: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while not log.exists() or word not in log.read_text():
        assert time.monotonic() < deadline, log.read_text() if log.exists() else "no log"
        time.sleep(0.02)


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def all_gone(pids: list[int]) -> bool:
    """Whether they end, long before they would by themselves; waits for it."""
    deadline = time.monotonic() + 60
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pids)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_ending_it_ends_sessions_and_orphans_too(log: Path) -> None:
    process = start(log)
    wait_for("ready", log)
    below = process.pids()
    assert len(below) == 3
    process.end()
    assert not alive(below) and process.exit_code() == 128 + signal.SIGTERM


def test_what_a_dead_command_leaves_behind_is_killed(log: Path) -> None:
    process = start(log)
    wait_for("ready", log)
    below = process.pids()
    os.kill(below[0], signal.SIGKILL)
    assert all_gone(below)
    while process.exit_code() is None:
        time.sleep(0.02)
    assert process.exit_code() == 128 + signal.SIGKILL
    process.end()


def test_the_guard_killed_takes_the_command_along(log: Path) -> None:
    process = start(log, "print('ready', flush=True); import time; time.sleep(600)")
    wait_for("ready", log)
    below = process.pids()
    os.kill(process.guard_pid, signal.SIGKILL)
    assert all_gone(below)
    process.end()


def test_guard_and_command_killed_leave_no_workers(log: Path) -> None:
    code = "import subprocess, time\nsubprocess.Popen(['sleep', '600'])\nprint('ready', flush=True)\ntime.sleep(600)"
    process = start(log, code)
    wait_for("ready", log)
    command, worker = process.pids()
    for pid in (process.guard_pid, command):
        os.kill(pid, signal.SIGKILL)
    while process.exit_code() is None:
        time.sleep(0.02)
    assert all_gone([command, worker])
    process.end()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_parent_takes_all_of_it_along(log: Path, number: int) -> None:
    code = (
        "import os, sys, time\nfrom pathlib import Path\nfrom harness.engines.vllm.process import GuardedProcess\n"
        f"p = GuardedProcess([sys.executable, '-c', {FAMILY!r}], os.environ, Path({str(log)!r}), grace_s=600)\n"
        "if os.fork() == 0:\n    time.sleep(3)\n    os._exit(0)\n"  # holds the pipe open for a while
        "print(p.guard_pid, flush=True)\ntime.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        guard = int(parent.stdout.readline())
        wait_for("ready", log)
        os.kill(parent.pid, number)
        assert all_gone([guard])
    assert (
        "600" not in subprocess.run(["ps", "-o", "args=", "--ppid", str(guard)], capture_output=True, text=True).stdout
    )


def test_a_supervisor_that_kills_the_children_first_leaves_nothing(log: Path) -> None:
    """As Ray does: the guard, a child, is killed before it could see that its parent is."""
    process = start(log)
    wait_for("ready", log)
    time.sleep(1.2)  # an orphan in a session of its own has to be seen once
    below = process.pids()
    assert len(below) == 3
    os.kill(process.guard_pid, signal.SIGKILL)
    assert all_gone(below)
    process.end()


def test_the_second_guard_goes_with_the_first(log: Path) -> None:
    process = start(log, "print('ready', flush=True); import time; time.sleep(600)")
    wait_for("ready", log)
    seconds = [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _is_guard(entry, process.guard_pid)
    ]
    assert len(seconds) == 1 and seconds[0] not in process.pids()
    process.end()
    assert all_gone(seconds)


def _is_guard(entry: Path, first: int) -> bool:
    """Whether a process runs the very command of the first guard, and is another one."""
    try:
        mine = (Path("/proc") / str(first) / "cmdline").read_bytes()
        return entry.name != str(first) and (entry / "cmdline").read_bytes() == mine
    except OSError:
        return False


def test_grace_is_given_and_then_no_more(log: Path) -> None:
    patient = "import signal, time\nsignal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), print('done', flush=True), exit(3)))\nprint('ready', flush=True)\ntime.sleep(600)"
    process = start(log, patient)
    wait_for("ready", log)
    process.end()
    assert "done" in log.read_text() and process.exit_code() == 3
    log.unlink()
    # Left alone, it would end by itself, with another exit code.
    deaf = "import signal, time\nsignal.signal(signal.SIGTERM, lambda *_: (time.sleep(10), exit(4)))\nprint('ready', flush=True)\ntime.sleep(600)"
    process = start(log, deaf, grace_s=0.3)
    wait_for("ready", log)
    process.end()
    assert process.exit_code() == 128 + signal.SIGKILL
