"""Copies of pickled weights in memory: transformers maps such files, and a mapped file that shrinks ends the process."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def held_in_memory(folder: Path) -> Iterator[Path]:
    """A folder that looks like `folder` and whose *.bin files are copies in memory, for as long as the block runs.

    `folder` itself where there are none, or the system has no files in memory (`memfd_create`, Linux only). Raises OSError.
    """
    files = sorted(folder.glob("*.bin"))
    if not files or not hasattr(os, "memfd_create"):
        yield folder
        return
    with contextlib.ExitStack() as stack:
        copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="harness-"))) / folder.resolve().name
        copy.mkdir()
        for path in folder.iterdir():
            if path in files:
                memory = stack.enter_context(os.fdopen(os.memfd_create(path.name), "wb"))
                with path.open("rb") as stream:
                    shutil.copyfileobj(stream, memory, 2**24)
                memory.flush()
                (copy / path.name).symlink_to(f"/proc/{os.getpid()}/fd/{memory.fileno()}")
            else:
                (copy / path.name).symlink_to(path.absolute())
        yield copy
