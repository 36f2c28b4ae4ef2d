"""A folder with one writer: held by a lock that the system lets go of when the process dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from harness.core.errors import StateError
from harness.core.journal import write_failure


@contextlib.contextmanager
def held_folder(folder: Path) -> Iterator[None]:
    """Make the folder and hold it. Raises StateError if somebody else does (naming the process), or it cannot be made."""
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
