"""The passages of a standard library's field, cached on disk: to choose them the library is parsed, which takes a second or two.

A file is named by a digest of everything that determines its content: the interpreter, the library's files with sizes and
times, the rules.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.core.cached_file import CachedFile, cache_folder
from harness.core.digest import digest_json


class StoredPassages:
    """Of one domain.

    `files`: the modules that the passages are taken from; `rules`: numbers that change with any rule of the choice.
    """

    def __init__(self, domain: str, *, root: Path, files: Iterable[Path], rules: Sequence[int]) -> None:
        seen = []
        for path in files:
            about = path.stat()
            seen.append([path.relative_to(root).as_posix(), about.st_size, about.st_mtime_ns])
        python = [platform.python_implementation(), platform.python_version()]
        digest = digest_json([domain, str(root), python, sorted(seen), list(rules)]).removeprefix("sha256:")
        self._file = CachedFile(cache_folder() / "passages" / f"{digest}.json")

    def read(self) -> list[str] | None:
        """The passages; None where the file is missing or damaged."""
        content = self._file.read()
        try:
            found = None if content is None else json.loads(content)
        except ValueError:
            return None
        return found if isinstance(found, list) and all(isinstance(one, str) for one in found) else None

    def write(self, passages: Sequence[str]) -> None:
        """Store the passages; does nothing where the disk cannot be written."""
        self._file.write(json.dumps(list(passages)).encode())
