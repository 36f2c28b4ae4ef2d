"""Files that will be read soon, asked for early: the disk works while a model is scored.

Only a hint to the system, which drops it when memory is short. Nothing waits for it and nothing fails with it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path


def read_ahead(files: Sequence[Path]) -> threading.Thread | None:
    """Have the files brought into the system's cache, in the background; None where the system takes no such hint."""
    if not hasattr(os, "posix_fadvise"):
        return None
    thread = threading.Thread(target=_ask, args=(tuple(files),), name="read-ahead", daemon=True)
    thread.start()
    return thread


def _ask(files: Sequence[Path]) -> None:
    for path in files:
        with contextlib.suppress(OSError), path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
