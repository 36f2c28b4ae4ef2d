"""Read-ahead of files that are needed soon, so that the disk works while a model is scored.

Only a hint to the system, which ignores it when memory is short. Nothing waits for it, and its failure has no effect.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path


def read_ahead(files: Sequence[Path]) -> threading.Thread | None:
    """Ask the system, in a thread, to read the files into its cache; None where it has no such call (posix_fadvise)."""
    if not hasattr(os, "posix_fadvise"):
        return None
    thread = threading.Thread(target=_ask, args=(tuple(files),), name="read-ahead", daemon=True)
    thread.start()
    return thread


def _ask(files: Sequence[Path]) -> None:
    for path in files:
        with contextlib.suppress(OSError), path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
