"""Files that save time and nothing else, below one folder.

A file is named for everything that its content follows from, never for a path. It holds its own checksum; one that is damaged
is made again, and a disk that refuses costs time later, not the run. Losing the folder loses nothing but time.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from harness.core.errors import StateError
from harness.core.journal import write_atomically

FOLDER_VARIABLE = "HARNESS_CACHE"
N_CHECKSUM = 32
"""Bytes of the SHA-256 that stands before the content."""


def cache_folder() -> Path:
    """$HARNESS_CACHE, else mixture-harness in $XDG_CACHE_HOME or ~/.cache; for a user without a home one where nothing can be kept."""
    given = os.environ.get(FOLDER_VARIABLE)
    if given:
        return Path(given)
    caches = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(caches or Path.home() / ".cache") / "mixture-harness"
    except RuntimeError:  # a container's user without $HOME and without an entry in /etc/passwd
        return Path(os.devnull) / "mixture-harness"


class CachedFile:
    """A SHA-256 of the content, then the content."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> bytes | None:
        """The content; None where there is none that can be trusted."""
        try:
            found = self.path.read_bytes()
        except OSError:
            return None
        content = found[N_CHECKSUM:]
        return content if hashlib.sha256(content).digest() == found[:N_CHECKSUM] else None

    def write(self, content: bytes) -> None:
        """Keep a content, where the disk lets it."""
        try:
            write_atomically(self.path, hashlib.sha256(content).digest() + content)
        except (StateError, OSError):
            return
