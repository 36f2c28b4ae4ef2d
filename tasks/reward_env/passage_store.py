"""The passages of a standard library's field on disk: to choose them means to parse the library, a second or two each time.

A file is named for everything that its content follows from: the interpreter, the library's files with sizes and times, the
rules.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.core.cached_file import CachedFile, cache_folder
from harness.core.digest import digest_json


class StoredPassages:
    """Of one domain. `files`: all that the passages are taken from; `rules`: by what, another value with any change of them."""

    def __init__(self, domain: str, *, root: Path, files: Iterable[Path], rules: Sequence[int]) -> None:
        seen = []
        for path in files:
            about = path.stat()
            seen.append([path.relative_to(root).as_posix(), about.st_size, about.st_mtime_ns])
        python = [platform.python_implementation(), platform.python_version()]
        digest = digest_json([domain, str(root), python, sorted(seen), list(rules)]).removeprefix("sha256:")
        self._file = CachedFile(cache_folder() / "passages" / f"{digest}.json")

    def read(self) -> list[str] | None:
        """None where there are none that can be trusted."""
        content = self._file.read()
        try:
            found = None if content is None else json.loads(content)
        except ValueError:
            return None
        return found if isinstance(found, list) and all(isinstance(one, str) for one in found) else None

    def write(self, passages: Sequence[str]) -> None:
        """Keep passages."""
        self._file.write(json.dumps(list(passages)).encode())
