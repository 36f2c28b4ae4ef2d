"""TensorBoard: event files in the run folder. A vector is one record of a file, so it is written as a whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.core.errors import SpecError
from harness.core.journal import sync_folder
from harness.track.row import TrackedRow, markdown
from harness.track.tracker import RunIdentity, package

VERSION = "brain.Event:2"
TABLE = "components"
EVENTS = "events.out.tfevents.*"


def folder_name(trajectory: str) -> str:
    """A trajectory's folder: its name, with a digest where characters had to be replaced, so that two never share a folder."""
    name = re.sub(r"[^A-Za-z0-9_.=,+\[\]-]+", "_", trajectory).strip(".") or "_"
    if name == trajectory and len(name) <= 100:
        return name
    return f"{name[:100]}-{hashlib.sha256(trajectory.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


class TensorBoardTracker:
    """`place`: a folder in place of OUT/tensorboard."""

    keeps_reports = False

    def __init__(self, *, place: str | None, folder: Path | None) -> None:
        if place is None and folder is None:
            raise SpecError("--track tensorboard: there is no run folder to write to; tensorboard:FOLDER names one")
        self._own = place is None
        self._folder = Path(place) if place is not None else (folder or Path()) / "tensorboard"
        package("tensorboard.summary.writer.record_writer", tracker="tensorboard", install="tensorboard")

    def open(self, identity: RunIdentity) -> TensorBoardRun:
        """The folder of a trajectory; in a PLACE, which other runs may share, below one of the run's."""
        folder = self._folder if self._own else self._folder / folder_name(identity.group)
        return TensorBoardRun(folder / folder_name(identity.config["trajectory"]), identity)


class TensorBoardRun:
    """The event files of a trajectory. They are rewritten if a row replaces another or belongs before one."""

    def __init__(self, folder: Path, identity: RunIdentity) -> None:
        self._folder = folder
        self._id = identity.id
        self._stream: Any = None
        self._rows: dict[int, tuple[str, bytes]] = {}
        """Step -> (digest, record)."""
        in_order = True
        self._files = sorted(self._folder.glob(EVENTS))
        for step, digest, record in (row for path in self._files for row in self._read(path)):
            in_order &= not self._rows or step > max(self._rows)
            self._rows[step] = digest, record
        if not in_order:  # killed between a new file and the removal of the old ones
            self._rewrite()

    def seen(self) -> set[tuple[int, str]]:
        """From the event files."""
        return {(step, digest) for step, (digest, _) in self._rows.items()}

    def write(self, row: TrackedRow) -> None:
        """Write one record; it is durable when this returns."""
        record = self._record(row)
        last = max(self._rows, default=-1)
        self._rows[row.step] = row.digest, record
        if row.step <= last:
            self._rewrite()
            return
        if self._stream is None:
            self._stream = self._new_file([])
        self._append(self._stream, record)

    def report(self, path: Path) -> None:
        """Nothing: TensorBoard stores no files."""

    def finish(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _record(self, row: TrackedRow) -> bytes:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING

        values = [Summary.Value(tag=name, simple_value=value) for name, value in row.metrics.items()]
        text = SummaryMetadata(summary_description=f"{self._id} {row.digest}")
        text.plugin_data.plugin_name = "text"
        table = TensorProto(dtype=DT_STRING, string_val=[markdown(row.table).encode("utf-8", "replace")])
        table.tensor_shape.dim.add(size=1)
        values.append(Summary.Value(tag=TABLE, metadata=text, tensor=table))
        event: bytes = Event(wall_time=time.time(), step=row.step, summary=Summary(value=values)).SerializeToString()
        return event

    def _read(self, path: Path) -> Iterator[tuple[int, str, bytes]]:
        """The rows of a file up to where it was cut off, by TensorBoard's own reader. Raises SpecError for another run's."""
        from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
        from tensorboard.compat.proto.event_pb2 import Event

        for record in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(record)
            for value in event.summary.value:
                if value.tag == TABLE:
                    run, _, digest = value.metadata.summary_description.partition(" ")
                    if run != self._id:
                        raise SpecError(f"{path} is of another run; name another folder with tensorboard:FOLDER")
                    yield event.step, digest, record

    def _new_file(self, records: list[bytes]) -> Any:
        """A new file with these records, renamed to its name once they are written."""
        from tensorboard.compat.proto.event_pb2 import Event

        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"events.out.tfevents.{time.time():017.6f}.harness"
        temporary = path.with_name(f".{os.getpid()}.tmp")
        stream = temporary.open("wb")
        first = Event(wall_time=time.time(), file_version=VERSION).SerializeToString()
        for record in (first, *records):
            self._append(stream, record, sync=False)
        os.fsync(stream.fileno())
        temporary.replace(path)
        sync_folder(self._folder)
        self._files.append(path)
        return stream

    def _rewrite(self) -> None:
        self.finish()
        old, self._files = self._files, []
        self._stream = self._new_file([self._rows[step][1] for step in sorted(self._rows)])
        for path in old:
            path.unlink(missing_ok=True)

    @staticmethod
    def _append(stream: Any, record: bytes, *, sync: bool = True) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        RecordWriter(stream).write(record)
        stream.flush()
        if sync:
            os.fsync(stream.fileno())
