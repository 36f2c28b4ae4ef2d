"""Whether files were replaced or written to, by what `stat` says and without reading them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class FileIdentity(NamedTuple):
    """Equal for a file that was neither replaced nor written to in between; None stands for one that is not there."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


Identities = dict[Path, FileIdentity | None]


def identities(paths: Iterable[Path]) -> Identities:
    """Of each file, following links."""
    found: Identities = {}
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            found[path] = None
            continue
        found[path] = FileIdentity(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    return found


def first_changed(before: Identities, *, but_for_links: bool = False) -> Path | None:
    """The first file that changed, None if none did. `but_for_links`: ignore the change time, which a new hard link or other
    permissions set; then content that was overwritten with its modification time set back is not noticed either.
    """
    now = identities(before)
    for path, identity in before.items():
        found = now[path]
        if but_for_links and found is not None and identity is not None:
            found = found._replace(changed_ns=identity.changed_ns)
        if found != identity:
            return path
    return None
