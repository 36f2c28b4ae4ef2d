"""Runs one Python program that a model wrote: in a process of its own with limits on time and memory, without network,
without other processes, and with nothing to write to but a temporary folder. Linux only; knows no benchmark.

What holds is enforced by the kernel from sandbox_child.py. It is meant for programs that are wrong, and for those that do
damage by accident; whoever expects attacks adds a container or a virtual machine.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.core.errors import SpecError

CHILD = Path(__file__).with_name("sandbox_child.py")
TIME_S = 3.0
"""Seconds a program may run, as `code_eval` gives it."""
START_S = 20.0
"""Seconds for the interpreter to start and the verdict to come back, on a busy machine."""
MEMORY_BYTES = 2**31
"""Address space of a program, the interpreter's included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a program ended: `reason` is null where it passed."""

    passed: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """What the kernel offers: `refusal` says why nothing is run; `files` where a program may write."""

    refusal: str | None
    files: str


def run_program(
    program: str, *, time_s: float = TIME_S, memory_bytes: int = MEMORY_BYTES, writable: bool = True
) -> Ran:
    """Whether the program runs to its end without an exception. Raises SpecError where it cannot be contained.

    Without `writable` no file can be written at all, which is also so where the kernel has no Landlock.
    """
    refusal = protection().refusal
    if refusal:
        raise SpecError(refusal)
    with tempfile.TemporaryDirectory(prefix="harness-code-", ignore_cleanup_errors=True) as folder:
        token = secrets.token_hex(16)
        job = {
            "program": program,
            "token": token,
            "time_s": time_s,
            "memory_bytes": memory_bytes,
            "folder": folder if writable else None,
        }
        with _child(folder) as process:
            try:
                said, _ = process.communicate(json.dumps(job).encode(), timeout=START_S + time_s)
            except subprocess.TimeoutExpired:
                return Ran(passed=False, reason="timed out")
    for line in said.decode("utf-8", "replace").splitlines():
        if line.startswith(f"{token} "):
            verdict = line.removeprefix(f"{token} ")
            return Ran(passed=verdict == "passed", reason=None if verdict == "passed" else verdict)
    return Ran(passed=False, reason=f"ended without a verdict (exit {process.returncode})")


@contextmanager
def _child(folder: str) -> Iterator[subprocess.Popen[bytes]]:
    """The process that contains itself and runs what it reads. Gone, with all it started, when the block ends."""
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": folder, "TMPDIR": folder, "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-I", "-B", str(CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )
    try:
        with process:
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    finally:
        process.wait()


@cache
def protection() -> Protection:
    """What can be promised on this machine, found out by asking the kernel once."""
    if sys.platform != "linux":
        return Protection(
            refusal=f"programs are run in a sandbox of Linux, and this is {sys.platform}", files="nowhere"
        )
    asked = subprocess.run(
        [sys.executable, "-I", "-B", str(CHILD), "--probe"], capture_output=True, text=True, check=False, timeout=60
    )
    try:
        found = json.loads(asked.stdout)
    except ValueError:
        why = (asked.stderr.strip().splitlines() or [f"exit {asked.returncode}"])[-1]
        return Protection(
            refusal=f"the sandbox for programs does not start here ({why}); leave the code benchmarks out, or run them "
            "on a Linux machine with seccomp",
            files="nowhere",
        )
    return Protection(refusal=None, files="its temporary folder" if found["landlock"] else "nowhere")
