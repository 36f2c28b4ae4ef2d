"""The passages of a standard library's field on disk: to choose them means to parse the library, a second or two each time.

A file is named for everything that its content follows from: the interpreter, the library's files with sizes and times, the
rules. It holds its own checksum; one that is damaged is made again. Losing the folder loses nothing but time.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.core.digest import digest_json
from harness.core.errors import StateError
from harness.core.journal import write_atomically
from harness.tasks.reward_env.token_store import cache_folder


class StoredPassages:
    """Of one domain. `files`: all that the passages are taken from; `rules`: by what, another value with any change of them."""

    def __init__(self, domain: str, *, root: Path, files: Iterable[Path], rules: Sequence[int]) -> None:
        seen = []
        for path in files:
            about = path.stat()
            seen.append([path.relative_to(root).as_posix(), about.st_size, about.st_mtime_ns])
        python = [platform.python_implementation(), platform.python_version()]
        digest = digest_json([domain, str(root), python, sorted(seen), list(rules)]).removeprefix("sha256:")
        self.path = cache_folder() / "passages" / f"{digest}.json"

    def read(self) -> list[str] | None:
        """None where there are none that can be trusted."""
        try:
            content = self.path.read_bytes()
            if hashlib.sha256(content[32:]).digest() != content[:32]:
                return None
            found = json.loads(content[32:])
        except (OSError, ValueError):
            return None
        return found if isinstance(found, list) and all(isinstance(one, str) for one in found) else None

    def write(self, passages: Sequence[str]) -> None:
        """A disk that refuses costs time later, not the run."""
        body = json.dumps(list(passages)).encode()
        try:
            write_atomically(self.path, hashlib.sha256(body).digest() + body)
        except (StateError, OSError):
            return
