"""Runs one Python program that a model wrote: in a process of its own with limits on time and memory, without network,
without other processes, and with nothing to write to but a temporary folder. Linux only; knows no benchmark.

What holds is enforced by the kernel from sandbox_child.py. That a program passed is seen from here, in the kernel's account of its
process, and never believed of the process itself. A program and its tests share one process (the tests call the program's functions
with objects of any kind), and libraries that programs may use (numpy, pandas, scipy) give out ctypes and raw memory. So in machine
code, or by writing into the interpreter's memory, a program can do to its process whatever it likes, and no secret in it is one. What is
left is a second process: each program that passed runs once more with an assertion at its end that never holds, and where
it passes that too, it has not passed. A program that overwrites the one test it knows, and leaves that assertion alone, is not found.
"""

from __future__ import annotations

import json
import os
import platform
import select
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from harness.core.errors import SpecError

CHILD = Path(__file__).with_name("sandbox_child.py")
TIME_S = 3.0
"""Seconds a program may run, as `code_eval` gives it."""
FORGED = "it tried to write its own verdict"
START_S = 20.0
"""Seconds for the interpreter to start and the verdict to come back, on a busy machine."""
MEMORY_BYTES = 2**31
"""Address space of a program, the interpreter's included."""
DISK_BYTES = 2**26
"""Limit for all files of a program together."""
OUTPUT_BYTES = 2**20
"""How much of a program's output is kept."""
FILES = 1000
"""Files and folders that a program may make."""
RULES = 2
"""Part of what a component that runs programs is known by. Raised when a program would pass that failed before, or the other way."""
NEVER_MET = "\nassert 0 == 1\n"
"""Ends a program so that it cannot pass; a condition that the compiler does not decide."""
READ = {"x86_64": 0, "aarch64": 63}
"""Number of the system call `read`."""
FIRST_S, LONGEST_S = 0.001, 0.02
"""Seconds between two checks of a program's state: the first pause, and the longest, as each doubles the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a program ended: `reason` is None where it passed. `output`: the first OUTPUT_BYTES of what it printed (`as_main`)."""

    passed: bool
    reason: str | None = None
    output: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """What this machine's kernel enforces: `refusal` says why nothing is run; `files` where a program may write."""

    refusal: str | None
    files: str


def run_program(
    program: str,
    *,
    time_s: float = TIME_S,
    memory_bytes: int = MEMORY_BYTES,
    writable: bool = True,
    as_main: bool = False,
    files: Mapping[str, bytes] | None = None,
) -> Ran:
    """Whether the program runs to its end without an exception. Raises SpecError where it cannot be contained, ValueError for
    a name in `files` that leads out of the folder.

    Without `writable` no file can be written at all, which is also so where the kernel has no Landlock. `as_main`: as `python -c`
    runs it, so that its name is `__main__` and what it prints is kept. `files`: what it finds in its folder, by relative path.
    """
    refusal = protection().refusal
    if refusal:
        raise SpecError(refusal)
    run = partial(_run, memory_bytes=memory_bytes, writable=writable, as_main=as_main, files=files)
    begun = time.monotonic()
    ran = run(program, time_s=time_s)
    again_s = min(time_s, 1 + 2 * (time.monotonic() - begun))
    if ran.passed and run(program + NEVER_MET, time_s=again_s).passed:
        return replace(ran, passed=False, reason=FORGED)
    return ran


class Waiting(NamedTuple):
    """A process that waits in `read`, by /proc/PID/syscall: for how many bytes, with which stack and instruction pointers."""

    n_bytes: int
    stack: str
    code: str


def _run(
    program: str,
    *,
    time_s: float,
    memory_bytes: int,
    writable: bool,
    as_main: bool = False,
    files: Mapping[str, bytes] | None = None,
) -> Ran:
    with (
        tempfile.TemporaryDirectory(prefix="harness-code-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as printed,
    ):
        for name, content in (files or {}).items():
            path = Path(folder) / name
            if not path.resolve().is_relative_to(Path(folder).resolve()):
                raise ValueError(f"{name} is not within the program's folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        ran = _run_in(
            folder,
            printed if as_main else None,
            {
                "program": program,
                "time_s": time_s,
                "memory_bytes": memory_bytes,
                "folder": folder if writable else None,
                "name": "__main__" if as_main else None,
            },
        )
        printed.seek(0)
        return replace(ran, output=printed.read(OUTPUT_BYTES).decode("utf-8", "replace"))


def _run_in(folder: str, printed: IO[bytes] | None, job: dict[str, Any]) -> Ran:
    with _child(folder, printed) as process:
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
            before = _next_wait(process, n_bytes=1, folder=None, within_s=START_S)
            if isinstance(before, Ran):
                return before
            process.stdin.write(b".")
            process.stdin.flush()
        except BrokenPipeError:
            return Ran(passed=False, reason="the interpreter did not start")
        after = _next_wait(process, n_bytes=2, folder=Path(folder), within_s=START_S + job["time_s"])
        if isinstance(after, Ran):
            return after
        if (after.stack, after.code) != (before.stack, before.code):
            return Ran(passed=False, reason=FORGED)
        return Ran(passed=True)


def _next_wait(
    process: subprocess.Popen[bytes], *, n_bytes: int, folder: Path | None, within_s: float
) -> Waiting | Ran:
    """The process once it waits for `n_bytes`; else how it ended."""
    assert process.stdout is not None
    deadline, pause = time.monotonic() + within_s, FIRST_S
    answers = select.poll()  # unlike select(2), good for descriptors of any number
    answers.register(process.stdout, select.POLLIN)
    while True:
        if answers.poll(1000 * pause):
            said = os.read(process.stdout.fileno(), 4096).decode("utf-8", "replace").strip()
            return Ran(passed=False, reason=said or "ended without a verdict")
        found = _waiting(process.pid)
        if found is not None and found.n_bytes == n_bytes:
            return found
        if folder is not None and (too_much := _too_much(process.pid, folder)):
            return Ran(passed=False, reason=too_much)
        if time.monotonic() > deadline:
            return Ran(passed=False, reason="timed out")
        pause = min(2 * pause, LONGEST_S)


def _waiting(pid: int) -> Waiting | None:
    """Where the main thread of a process waits in `read`; None where it does something else, or /proc does not show it."""
    try:
        words = Path(f"/proc/{pid}/syscall").read_text().split()
        if len(words) < 9 or int(words[0]) != READ[platform.machine()]:
            return None
        return Waiting(int(words[3], 16), words[-2], words[-1])
    except (OSError, ValueError, KeyError):
        return None


def _too_much(pid: int, folder: Path) -> str | None:
    """In words, which limit on files a program exceeds, with those in its folder and deleted ones that it keeps open."""
    n_bytes = n_files = 0
    for where, folders, files in os.walk(folder):
        n_files += len(folders) + len(files)
        for name in files:
            with suppress(OSError):
                n_bytes += (Path(where) / name).lstat().st_blocks * 512
        if n_files > FILES or n_bytes > DISK_BYTES:
            break
    with suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                held = Path(entry.path).stat()
                n_bytes += held.st_blocks * 512 if stat.S_ISREG(held.st_mode) and not held.st_nlink else 0
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if line.endswith("(deleted)"):
                begin, end = (int(word, 16) for word in line.split()[0].split("-"))
                n_bytes += end - begin
    if n_files > FILES:
        return f"more than {FILES} files"
    return f"more than {DISK_BYTES // 2**20} MiB of files" if n_bytes > DISK_BYTES else None


@contextmanager
def _child(folder: str, printed: IO[bytes] | None) -> Iterator[subprocess.Popen[bytes]]:
    """The process of sandbox_child.py. It is killed, with its process group, when the block ends.

    `printed`: the open file for its output; None: discarded.
    """
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": folder, "TMPDIR": folder, "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-I", "-B", *(() if printed is None else ("-u",)), str(CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if printed is None else printed,
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
    """What this machine enforces, probed once per process."""
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
    files = "its temporary folder" if found["landlock"] else "nowhere"
    if not _run("", time_s=TIME_S, memory_bytes=MEMORY_BYTES, writable=True).passed:
        return Protection(
            refusal="this machine does not show what a program's process waits for (/proc/PID/syscall), so a program could "
            "write its own verdict; leave the code benchmarks out, or run them on a Linux kernel that does",
            files=files,
        )
    return Protection(refusal=None, files=files)
