"""An append-only file of JSON lines in which a line is either wholly there or not there.

The newline commits a line. A writer killed half way leaves a tail without one: readers ignore it, the next writer
cuts it off. Knows nothing of what the lines mean.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.core.errors import DataError, StateError


def write_failure(path: Path, error: OSError) -> StateError:
    """The one message for a write that the file system refused."""
    return StateError(
        f"cannot write {path}: {error.strerror or error}; make room or choose another place, then run the same command "
        "again: what was finished is kept"
    )


def sync_folder(folder: Path) -> None:
    """Make a new name in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, wholly or not at all. Raises StateError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise write_failure(path, error) from error


def json_object(line: bytes, where: str) -> dict[str, Any]:
    """The JSON object of a line. Raises DataError naming the place."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON ({error}); restore or delete it") from error
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


class Journal:
    """One JSON-lines file, appended a line at a time. One writer; any number of readers."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[tuple[int, dict[str, Any]]]:
        """Every committed line as (line number from 1, object); an unfinished last line is ignored.

        Raises DataError naming the line that is not a JSON object.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror or error}") from error
        committed = content[: content.rfind(b"\n") + 1]
        lines = committed.split(b"\n")[:-1]
        return [(number, json_object(line, f"{self.path} line {number}")) for number, line in enumerate(lines, start=1)]

    def stream(self) -> Iterator[dict[str, Any]]:
        """The same objects one after the other, for files too large to be held in memory. Raises DataError."""
        try:
            with self.path.open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    if line.endswith(b"\n"):
                        yield json_object(line, f"{self.path} line {number}")
        except FileNotFoundError:
            return
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror or error}") from error

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Every committed line as (number from 1, bytes without its newline), one after the other. Raises DataError."""
        yield from Follower(self.path).new()

    def append(self, line: str) -> None:
        """Commit one line: all of it reaches the disk, or the file is left as it was. Raises StateError, or ValueError for a line
        with a newline in it."""
        if "\n" in line:
            raise ValueError("a journal line cannot contain a newline")
        data = line.encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = not self.path.exists()
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                end = self._committed_end(descriptor)
                os.ftruncate(descriptor, end)
                try:
                    written = 0
                    while written < len(data):
                        written += os.pwrite(descriptor, data[written:], end + written)
                    os.fsync(descriptor)
                except OSError:
                    os.ftruncate(descriptor, end)
                    raise
            finally:
                os.close(descriptor)
            if new:
                sync_folder(self.path.parent)
        except OSError as error:
            raise write_failure(self.path, error) from error

    @staticmethod
    def _committed_end(descriptor: int) -> int:
        """Offset just past the last newline; what follows is a torn line."""
        end = os.fstat(descriptor).st_size
        while end:
            start = max(0, end - 65536)
            newline = os.pread(descriptor, end - start, start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
        return 0


class Follower:
    """Reads each line of a journal once, over several calls, while another process appends to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._forget()

    def _forget(self) -> None:
        self._offset = self._number = 0
        self._identity: tuple[int, int] | None = None
        self._last = b""

    def continues(self) -> bool:
        """Whether the file still begins with what was read: else it was replaced or cut, and `new` starts from its beginning.

        Raises DataError.
        """
        try:
            with self.path.open("rb") as stream:
                stat = os.fstat(stream.fileno())
                stream.seek(max(0, self._offset - len(self._last)))
                same = stream.read(len(self._last)) == self._last
        except FileNotFoundError:
            return self._offset == 0
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror or error}") from error
        return same and self._identity in (None, (stat.st_dev, stat.st_ino))

    def new(self) -> Iterator[tuple[int, bytes]]:
        """Committed lines that were not given before, as (number from 1, bytes without the newline).

        From the beginning where the file does not continue what was read. Raises DataError.
        """
        if not self.continues():
            self._forget()
        try:
            with self.path.open("rb") as stream:
                stat = os.fstat(stream.fileno())
                self._identity = stat.st_dev, stat.st_ino
                stream.seek(self._offset)
                for line in stream:
                    if not line.endswith(b"\n"):
                        break
                    self._number += 1
                    self._offset += len(line)
                    self._last = line[-256:]
                    yield self._number, line[:-1]
        except FileNotFoundError:
            return
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror or error}") from error

    def skip(self) -> None:
        """Pass over every line that is in the file now."""
        for _ in self.new():
            pass
