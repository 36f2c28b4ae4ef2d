"""wandb: a run per trajectory, online or (WANDB_MODE=offline) in OUT/wandb for `wandb sync`."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.core.errors import SpecError
from harness.track.row import COLUMNS, TrackedRow
from harness.track.tracker import MARK, RunIdentity, package

BLOCK = 32768
ARRIVAL_S = 20.0
HEADER = struct.Struct("<IHB")


def records(path: Path) -> Iterator[bytes]:
    """The records of a transaction log (LevelDB's log format after 7 bytes of header), up to where it was cut off."""
    content = path.read_bytes()
    at, record = 7, b""
    while True:
        left = BLOCK - at % BLOCK
        if left < HEADER.size:
            at += left
            continue
        if at + HEADER.size > len(content):
            return
        _, length, kind = HEADER.unpack_from(content, at)
        piece = content[at + HEADER.size : at + HEADER.size + length]
        if len(piece) < length or kind not in (1, 2, 3, 4):  # whole, first, middle, last
            return
        at += HEADER.size + length
        record = piece if kind in (1, 2) else record + piece
        if kind in (1, 4):
            yield record


class WandbTracker:
    """`place`: the project, or ENTITY/PROJECT; default $WANDB_PROJECT, else `harness`."""

    keeps_reports = True

    def __init__(self, *, place: str | None, folder: Path | None) -> None:
        self._wandb: Any = package("wandb", tracker="wandb", install="wandb")
        self._folder = folder
        settings = self._wandb.Settings()
        self._mode: str = str(self._wandb.setup().settings.mode)
        self._entity, _, project = (place or "").rpartition("/")
        self._project = project or settings.project or self._wandb.setup().settings.project or "harness"
        if self._mode == "online":
            try:
                ready = self._wandb.login(prompt=False)  # at a terminal it would ask, and wait behind the progress bar
            except Exception as error:
                raise SpecError(
                    f"--track wandb: {' '.join(str(error).split())}; run `wandb login`, or set WANDB_MODE=offline"
                ) from error
            if not ready:
                raise SpecError("--track wandb: not logged in; run `wandb login`, or set WANDB_MODE=offline")

    def open(self, identity: RunIdentity) -> WandbRun:
        """The run with the identity's id; wandb creates it with the first write, or the first request to a server."""
        return WandbRun(self._wandb, lambda: self._init(identity), identity, self._mode == "online", self._folder)

    def _init(self, identity: RunIdentity) -> Any:
        """Start the run, without console output, code, git state or command line."""
        wandb = self._wandb
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
        made = wandb.init(
            dir=None if self._folder is None else str(self._folder),
            project=self._project,
            entity=self._entity or None,
            id=identity.id,
            name=identity.name,
            group=identity.group,
            resume="allow",
            reinit="create_new",
            config=dict(identity.config),
            settings=wandb.Settings(
                console="off",
                silent=True,
                save_code=False,
                disable_code=True,
                disable_git=True,
                disable_job_creation=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )
        made.define_metric("step", hidden=True)
        made.define_metric("*", step_metric="step")
        return made


class WandbRun:
    """Online `seen` asks the server; offline it reads the transaction logs in the run folder."""

    def __init__(
        self, wandb: Any, init: Callable[[], Any], identity: RunIdentity, online: bool, folder: Path | None
    ) -> None:
        self._wandb = wandb
        self._init = init
        self._id = identity.id
        self._online = online
        self._folder = folder
        self._made: Any = None
        self._written: set[tuple[int, str]] = set()

    @property
    def _run(self) -> Any:
        if self._made is None:
            self._made = self._init()
        return self._made

    def seen(self) -> set[tuple[int, str]]:
        """From the history."""
        if not self._online:
            return set(self._in_files())
        if not self._run.resumed:
            return set()
        path = "/".join(filter(None, (self._run.entity, self._run.project, self._run.id)))
        history = self._wandb.Api().run(path).scan_history(keys=["step", MARK])
        return {(int(row["step"]), str(row[MARK])) for row in history}

    def _in_files(self) -> Iterator[tuple[int, str]]:
        from wandb.proto.wandb_internal_pb2 import Record

        folder = self._folder
        for path in () if folder is None else sorted(folder.glob(f"wandb/offline-run-*/run-{self._id}.wandb")):
            for content in records(path):
                found = Record.FromString(content)
                if found.WhichOneof("record_type") == "history":
                    row = {(item.key or "/".join(item.nested_key)): item.value_json for item in found.history.item}
                    if MARK in row and "step" in row:
                        yield int(json.loads(row["step"])), json.loads(row[MARK])

    def write(self, row: TrackedRow) -> None:
        """One row of the history, with the table in it."""
        table = self._wandb.Table(columns=list(COLUMNS), data=[list(map(_cell, cells)) for cells in row.table])
        self._run.log({**row.metrics, "step": row.step, MARK: row.digest, "components": table})
        self._written.add(row.mark)

    def report(self, path: Path) -> None:
        """As an artifact of type `report`, a version each time."""
        artifact = self._wandb.Artifact(f"report-{self._id}", type="report")
        artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def finish(self) -> None:
        """Wait for the upload; offline for the file, which wandb's own process may still write.

        Raises RuntimeError after ARRIVAL_S.
        """
        if self._made is None:
            return
        self._made.finish()
        deadline = time.monotonic() + ARRIVAL_S
        while not self._online and self._folder is not None and (lost := self._written - self.seen()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(lost)} vector(s) are not in {self._folder / 'wandb'}")
            time.sleep(0.05)


def _cell(value: Any) -> Any:
    """A column of a wandb table has one type: numbers are floats, everything else is as it is."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
