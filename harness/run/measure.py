"""One component on one opened checkpoint: from the ledger, or measured; what goes wrong becomes a failed measurement."""

from __future__ import annotations

import contextlib
import platform
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue

from harness.checkpoints.open import Opener
from harness.core.checkpoint import Checkpoint
from harness.core.component import Component, Outcome, Progress, Subject
from harness.core.errors import HarnessError, SpecError, StateError
from harness.core.held_folder import awaited_file
from harness.core.journal import write_failure
from harness.core.measurement import Measurement, failed
from harness.core.vector import CheckpointRecord
from harness.run.ledger import Entry, entry_key, short
from harness.spec.prepared import Row

ANSWERING = "answering"
"""Key in the detail of a served component: digest of what decided answers besides weights and tokenizer."""

WAIT_S = 30.0
"""Seconds to wait for another process that is measuring the same thing."""


class Store(Protocol):
    """Where finished measurements are looked up and stored: the ledger, or in a worker what hands them to the driver."""

    @property
    def folder(self) -> Path:
        """The run folder, whose `work/` keeps what a measurement in progress has."""
        ...

    def get(self, key: str) -> Entry | None:
        """A finished measurement."""
        ...

    def put(self, entry: Entry) -> Entry:
        """The entry as stored."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """A checkpoint that a component asks on a server."""

    opener: Opener
    checkpoint: Checkpoint

    def answering(self) -> str | None:
        """What decides its answers besides weights and tokenizer, as a digest. Raises CheckpointError."""
        return self.opener.serving.answering(self.checkpoint)

    def check(self, component: Component) -> None:
        """Check before a server is started what would fail on it. Raises HarnessError."""
        self.opener.serving.check(self.checkpoint, chats=component.chats, calls=component.calls_tools)

    def notes(self) -> list[str]:
        """What became of its server."""
        n = self.opener.serving.n_restarts(self.checkpoint)
        return [f"its server was started again {n} time(s) while the checkpoint was measured"] if n else []


def measure_component(
    row: Row,
    component: Component,
    subject: Subject,
    record: CheckpointRecord,
    store: Store | None,
    observer: Progress,
    *,
    served: Served | None = None,
) -> Entry:
    """One component on one opened checkpoint. What goes wrong becomes a failed measurement with its cause.

    Raises StateError and SpecError, which concern the whole run; every other exception becomes a failed measurement.
    """
    started, clock = now(), time.perf_counter()
    try:
        answering = None if served is None else served.answering()
    except HarnessError as error:
        observer.advance(items=component.n_items, tokens=0)
        return Entry(
            key="",
            component=component.config.name,
            measurement=failure(component, str(error)),
            started=started,
            seconds=time.perf_counter() - clock,
        )
    definition = row.definitions[component.config.name]
    key = entry_key(record.fingerprint or "", record.tokenizer, definition, answering=answering)
    known = store.get(key) if store else None
    if known is not None:
        observer.advance(items=component.n_items, tokens=0)
        return known
    engine, items = None, {}
    try:
        if served is not None:
            served.check(component)
        with _scratch(store, key) as scratch:
            outcome = component.measure(subject, observer, scratch)
        notes = [*subject.notes(), *(served.notes() if served is not None else ())]
        measurement, engine, items = _with_traces(outcome, notes, store, scratch), outcome.engine, dict(outcome.items)
        if served is not None:
            measurement = measurement.model_copy(update={"detail": {**measurement.detail, ANSWERING: answering}})
    except (StateError, SpecError):
        raise
    except HarnessError as error:
        measurement = failure(component, str(error))
    except Exception as error:  # noqa: BLE001 - the boundary where an unforeseen error becomes a failed measurement
        cause = " ".join(str(error).split())[:300]
        measurement = failure(component, f"unexpected {type(error).__name__}: {cause}")
        if store:
            trace = store.folder / "errors.log"
            _append(trace, traceback.format_exc())
    entry = Entry(
        key=key,
        component=component.config.name,
        measurement=measurement,
        engine=engine.name if engine else None,
        dtype=engine.dtype if engine else None,
        device=engine.device if engine else None,
        served=engine.served if engine else None,
        host=platform.node(),
        executor="local",
        started=started,
        seconds=time.perf_counter() - clock,
        table=items or None,
    )
    return entry if store is None else store.put(entry)


def _append(path: Path, text: str) -> None:
    """In one unbuffered write, so that texts of several processes do not mix. Raises StateError."""
    try:
        with path.open("ab", buffering=0) as stream:
            stream.write(text.encode(errors="replace"))
    except OSError as error:
        raise write_failure(path, error) from error


@contextlib.contextmanager
def _scratch(store: Store | None, key: str) -> Iterator[Path]:
    """A component's own folder for one measurement: in the run folder it survives a kill, without one it is temporary.

    It has one writer: if a process of a killed run or node is still ending, its lock is waited for.
    """
    if store is not None:
        with awaited_file(store.folder / f".measuring-{short(key)}", wait_s=WAIT_S):
            yield store.folder / "work" / short(key)
        return
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        yield Path(folder) / "work"


def _with_traces(outcome: Outcome, notes: Sequence[str], store: Store | None, scratch: Path) -> Measurement:
    """The measurement with `n_open`, `note` and `files` (paths in the run folder) in its detail, where there are any."""
    traces: dict[str, JsonValue] = {"n_open": outcome.n_open} if outcome.n_open else {}
    told = [note for note in (outcome.engine.note, *notes) if note]
    if told:
        traces["note"] = "; ".join(told)
    if store is not None and outcome.files:
        traces["files"] = [str((scratch / name).relative_to(store.folder)) for name in outcome.files]
    measurement = outcome.measurement
    return measurement.model_copy(update={"detail": {**measurement.detail, **traces}}) if traces else measurement


def failure(component: Component, reason: str) -> Measurement:
    """A failed measurement of a component, with its cause."""
    return failed(component.metric, reason, n_items=component.n_items, higher_is_better=component.higher_is_better)


def now() -> str:
    """The time in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
