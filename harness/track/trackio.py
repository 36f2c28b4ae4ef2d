"""trackio: a run per trajectory in a project, in its local database, on a Space ($TRACKIO_SPACE_ID) or on a server ($TRACKIO_SERVER_URL)."""

from __future__ import annotations

import contextlib
import contextvars
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from harness.core.errors import SpecError
from harness.track.row import COLUMNS, TrackedRow
from harness.track.tracker import MARK, RunIdentity, package


class _NotFromHere:
    """Standard output that drops what the creating thread prints, and passes on that of other threads."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() == self._thread else self._stdout.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stdout, name)


@contextlib.contextmanager
def _without_stdout() -> Iterator[None]:
    """Drops what trackio prints while it opens and ends a run, since stdout is for the command's results.

    Warnings are not affected.
    """
    with contextlib.redirect_stdout(_NotFromHere(sys.stdout)):
        yield


class TrackioTracker:
    """`place`: the project; default `harness`."""

    keeps_reports = True

    def __init__(self, *, place: str | None, folder: Path | None) -> None:
        self._trackio: Any = package("trackio", tracker="trackio", install="trackio")
        self._project = place or "harness"
        try:
            self._trackio.SQLiteStorage.validate_project_name(self._project)
        except ValueError as error:
            raise SpecError(f"--track trackio:{self._project}: {error}") from error

    def open(self, identity: RunIdentity) -> TrackioRun:
        """The run of the identity's name, which ends in its id. Logging of the machine is off."""
        name = re.sub(r"[^A-Za-z0-9_.=,\[\]-]+", "-", identity.name)
        # trackio ends the run that its context holds when another begins; each of ours gets a context of its own.
        context = contextvars.Context()
        with _without_stdout():
            run = context.run(
                self._trackio.init,
                project=self._project,
                name=name,
                group=identity.group,
                resume="allow",
                config=dict(identity.config),
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        return TrackioRun(self._trackio, run)


class TrackioRun:
    """trackio writes in a thread of its own and only warns of failures, so `finish` compares what arrived with what was written."""

    def __init__(self, trackio: Any, run: Any) -> None:
        self._trackio = trackio
        self._run = run
        self._written: set[tuple[int, str]] = set()

    def seen(self) -> set[tuple[int, str]]:
        """From the local database; for a Space or server also from there (which returns at most 3,000 rows)."""
        rows = self._trackio.SQLiteStorage.get_logs(self._run.project, self._run.name, run_id=self._run.id)
        if not self._run._is_local:
            rows = [*rows, *self._remote()]
        return {(int(row["step"]), str(row[MARK])) for row in rows if MARK in row}

    def _remote(self) -> list[dict[str, Any]]:
        source = self._run._space_id or self._run._server_base_url
        client = self._trackio.RemoteClient(
            source, hf_token=self._run._hf_token_for_remote(), write_token=self._run._write_token, verbose=False
        )
        runs = client.predict(project=self._run.project, api_name="/get_runs_for_project")
        if not any(self._run.name == (run["name"] if isinstance(run, dict) else run) for run in runs):
            return []
        rows = client.predict(project=self._run.project, run=self._run.name, run_id=self._run.id, api_name="/get_logs")
        return [row for row in rows if isinstance(row, dict)]

    def write(self, row: TrackedRow) -> None:
        """One row, with the table in it."""
        table = self._trackio.Table(columns=list(COLUMNS), data=[list(cells) for cells in row.table])
        self._run.log({**row.metrics, MARK: row.digest, "components": table}, step=row.step)
        self._written.add(row.mark)

    def report(self, path: Path) -> None:
        """As an artifact of type `report`, a version each time."""
        with _without_stdout():
            self._run.log_artifact(str(path), name=f"report-{self._run.id}", type="report")

    def finish(self) -> None:
        """Wait for trackio's thread. Raises RuntimeError where rows did not arrive."""
        with _without_stdout():
            self._run.finish()
        lost = self._written - self.seen()
        if lost:
            raise RuntimeError(f"{len(lost)} vector(s) did not arrive; trackio's own warnings say why")
