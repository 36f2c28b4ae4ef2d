"""Which files the checkpoints of a run folder had when they were last compared with its feed, so that unchanged ones are not hashed again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.core.file_identity import FileIdentity, Identities
from harness.core.journal import write_atomically

FILE = "seen.json"


class Seen:
    """File identities by the checkpoint's label. A file that was neither replaced nor written to holds the same weights and
    tokenizer; their fingerprints may depend on the installed packages too, so other `versions` discard everything. A cache:
    what cannot be read is treated as absent.
    """

    def __init__(self, folder: Path, versions: Mapping[str, str]) -> None:
        self._path = folder / FILE
        self._versions = dict(versions)
        self._known: dict[str, Any] = {}
        self._changed = False
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            if content["versions"] == self._versions:
                self._known = dict(content["checkpoints"])
        except (OSError, ValueError, KeyError, TypeError):
            pass

    def same(self, label: str, fingerprint: str | None, files: Identities) -> bool:
        """Whether the checkpoint was compared before, under this fingerprint, with these very files."""
        return self._known.get(label) == [fingerprint, _as_json(files)]

    def keep(self, label: str, fingerprint: str | None, files: Identities) -> None:
        """Record that the checkpoint was compared with these files."""
        found = [fingerprint, _as_json(files)]
        self._changed |= self._known.get(label) != found
        self._known[label] = found

    def write(self) -> None:
        """Keep it for the next run. Raises StateError."""
        if self._changed:
            content = {"versions": self._versions, "checkpoints": self._known}
            write_atomically(self._path, json.dumps(content).encode() + b"\n")
            self._changed = False


def _as_json(files: Mapping[Path, FileIdentity | None]) -> dict[str, Any]:
    return {str(path.absolute()): one and list(one) for path, one in files.items()}
