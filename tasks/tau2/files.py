"""The files of a domain: those in a data folder first, those of the inspect-evals package otherwise.

Owns names and places. A data folder has upstream's layout: DOMAIN/tasks.json, policy.md, split_tasks.json, db.json.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.core.digest import digest_bytes, digest_json
from harness.core.errors import DataError

INSIDE = (".", "domains", "tau2/domains", "data/tau2/domains")
"""Where in a data folder the domains' folders may lie."""
DATABASES = ("db.json", "db.toml", "user_db.json", "user_db.toml")


class DomainFiles:
    """Finds and reads. `packaged` is called only for files that the data folder lacks."""

    def __init__(self, domain: str, data: Path | None, packaged: Callable[[], Path]) -> None:
        self.domain = domain
        self.data = data
        self._packaged = packaged
        self._folders: list[Path] | None = None

    def _places(self) -> list[Path]:
        if self._folders is None:
            folders: list[Path] = []
            if self.data is not None:
                inside = [self.data / part / self.domain for part in INSIDE]
                folders = [folder for folder in inside if folder.is_dir()][:1]
                if not folders:
                    raise DataError(
                        f"{self.data} has no folder {self.domain!r}; `data` takes the folder that holds "
                        "one folder per domain, as tau2-bench's data/tau2/domains does"
                    )
            self._folders = folders
        return self._folders

    def find(self, *names: str) -> Path | None:
        """The first file there is under one of `names` (or the same gzipped); None where there is none."""
        for folder in self._places():
            for name in names:
                if (path := folder / name).is_file():
                    return path
        packaged = self._packaged() / self.domain
        for name in names:
            for path in (packaged / name, packaged / f"{name}.gz"):
                if path.is_file():
                    return path
        return None

    def folder(self, name: str) -> Path | None:
        """The data folder's own folder of this name; None where it has none."""
        found = [folder / name for folder in self._places() if (folder / name).is_dir()]
        return found[0] if found else None

    def databases(self) -> str | None:
        """Digest of the data folder's own databases; None where it has none, so that they are the package's."""
        own = [path for folder in self._places() for name in DATABASES if (path := folder / name).is_file()]
        return digest_json([[path.name, digest_bytes(read_bytes(path))] for path in own]) if own else None

    def need(self, *names: str) -> Path:
        """As `find`; raises DataError where there is none."""
        path = self.find(*names)
        if path is None:
            raise DataError(f"domain {self.domain} has no {names[0]}; give a folder that has it with `data`")
        return path

    def json(self, *names: str) -> Any:
        """A JSON file's content. Raises DataError."""
        return read_json(self.need(*names))

    def text(self, *names: str, unended: bool = False) -> str:
        """A text file's content. Raises DataError.

        `unended`: upstream's file has no newline at its end, where the package's has one; a data folder's text stays.
        """
        text = read_bytes(self.need(*names)).decode("utf-8")
        return text.removesuffix("\n") if unended and self.is_packaged(*names) else text

    def is_packaged(self, *names: str) -> bool:
        """Whether a file is the package's and not the data folder's. Raises DataError where there is none."""
        return self.need(*names).is_relative_to(self._packaged())


def read_bytes(path: Path) -> bytes:
    """A file's bytes, unpacked where it is gzipped (by content, whatever its name). Raises DataError."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def read_json(path: Path) -> Any:
    """A JSON file's value. Raises DataError."""
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error}); correct it or fetch it again") from error
