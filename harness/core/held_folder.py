"""A folder with one writer: held by a lock that the system releases when the process dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from harness.core.errors import StateError
from harness.core.journal import write_failure


@contextlib.contextmanager
def held_folder(folder: Path) -> Iterator[None]:
    """Make the folder and hold it. Raises StateError if another process holds it (named), or it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise write_failure(folder, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            raise StateError(
                f"{folder} is in use by another run{f' (process {owner})' if owner else ''}; "
                "wait for it or use another --out"
            ) from error
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        except OSError as error:
            raise write_failure(folder, error) from error
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def awaited_file(path: Path, *, wait_s: float) -> Iterator[None]:
    """Make a lock file and hold it, waiting while another process does; it is removed afterwards.

    Unlike a folder's lock it is not inherited by child processes. Where the file system has no locks there is no waiting.
    Raises StateError when another process still holds it after `wait_s` seconds, or it cannot be made.
    """
    end = time.monotonic() + wait_s
    while (descriptor := _taken(path)) is None:
        if time.monotonic() >= end:
            raise StateError(f"{path} is held by another process that still measures; wait for it, then run again")
        time.sleep(0.1)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _taken(path: Path) -> int | None:
    """The file's descriptor with the lock; None while another process holds it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise write_failure(path, error) from error
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())  # it may just have been removed
    except (BlockingIOError, PermissionError, FileNotFoundError):
        held = False
    except OSError:
        held = True
    if held:
        return descriptor
    os.close(descriptor)
    return None
