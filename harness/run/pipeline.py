"""The one loop: checkpoints x components -> reward vectors. Knows components only through their protocol."""

from __future__ import annotations

import contextlib
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from harness.checkpoints.open import Opener
from harness.core.checkpoint import Checkpoint
from harness.core.component import Component, Outcome, Subject
from harness.core.errors import HarnessError, SpecError, StateError
from harness.core.journal import write_atomically
from harness.core.measurement import Measurement, failed, is_open
from harness.core.place import Place
from harness.core.vector import CheckpointRecord, RewardVector
from harness.feed.feed import Feed
from harness.reward_models.reference import label
from harness.run.ledger import Entry, Ledger, entry_key, open_run
from harness.run.observer import Observer
from harness.run.vectors import RunVectors
from harness.spec.prepared import Prepared, Row

ANSWERING = "answering"
"""In the detail of a component that was asked on a server: what decided answers beside weights and tokenizer, as a digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a run did. `feed` holds every vector of the folder, `here` those of the checkpoints of this call;
    `n_new` of them were not there before, `n_again` were measured again.
    """

    feed: Feed
    here: Feed
    path: Path
    n_new: int
    n_again: int


def run(
    prepared: Prepared,
    checkpoints: Iterable[Checkpoint],
    *,
    out: Path,
    run_name: str | None = None,
    retry_failed: bool = False,
    observer: Observer | None = None,
) -> Summary:
    """Measure every checkpoint that is not in the folder's feed yet and append its vector. Raises HarnessError.

    A checkpoint that cannot be scored becomes a vector with status `failed`; the rest are still scored. `checkpoints` may
    yield them as they come into being; then the feed is in order after each.
    """
    observer = observer or Observer()
    spec = prepared.spec
    run_name = run_name or prepared.run
    opener = Opener(spec.opening, log_folder=out / "serve")
    opener.check(served=prepared.served)
    dump: dict[str, JsonValue] = spec.model_dump(mode="json", by_alias=True)
    with contextlib.closing(opener), open_run(out, run=run_name, spec_digest=prepared.digest, spec=dump) as ledger:
        vectors = RunVectors(prepared, run_name=run_name, feed=ledger.feed)
        places: set[Place] = set()
        n_checkpoints = len(checkpoints) if isinstance(checkpoints, Sequence) else None
        n_vectors = None if n_checkpoints is None else n_checkpoints * len(prepared.rows)
        n_pairs = (n_checkpoints or 0) * prepared.n_items
        observer.starting(checkpoints=n_checkpoints, vectors=n_vectors, items=n_pairs)
        try:
            for number, checkpoint in enumerate(checkpoints):
                observer.opening(checkpoint)
                rows = []
                for row in prepared.rows:
                    place = row.place(checkpoint)
                    places.add(place)
                    known = vectors.at(place)
                    if known is None or (retry_failed and any(is_open(c) for c in known.components)):
                        rows.append(row)
                        continue
                    _check_same(known, opener, checkpoint, ledger)
                    vectors.mix(known, checkpoint)
                    observer.advance(items=row.n_items, tokens=0)
                    observer.finished(known, new=False)
                if rows:
                    for following in checkpoints[number + 1 : number + 2] if isinstance(checkpoints, Sequence) else ():
                        opener.models.expect(following)
                    vectors.products = vectors.products or ledger.products(opener.fix_products)
                    record, entries = _measure(rows, opener, ledger, checkpoint, observer)
                    for row, found in zip(rows, entries, strict=True):
                        observer.finished(vectors.add(row, checkpoint, record, found), new=True)
                    _tell(vectors, observer)
                if n_checkpoints is None:
                    vectors.settle()
                    _tell(vectors, observer)
        finally:
            vectors.settle()  # also where it was stopped: what came early is not in the file yet
        _tell(vectors, observer)
        return Summary(
            feed=Feed(vectors.all),
            here=Feed([vector for vector in vectors.all if vector.place in places]),
            path=ledger.feed.path,
            n_new=vectors.n_new,
            n_again=vectors.n_again,
        )


def _tell(vectors: RunVectors, observer: Observer) -> None:
    for vector, component in vectors.alarms():
        observer.alarm(vector, component)


def _check_same(known: RewardVector, opener: Opener, checkpoint: Checkpoint, ledger: Ledger) -> None:
    """Refuse a checkpoint that was overwritten since its vector was written."""
    try:
        now = opener.identifier.identify(checkpoint)
    except HarnessError:
        return
    if known.checkpoint.fingerprint is None:
        return
    for what, before, here in (
        ("weights", known.checkpoint.fingerprint, now.fingerprint),
        ("tokenizer files", known.checkpoint.tokenizer, now.tokenizer),
        *_answering_then_and_now(known, opener, checkpoint),
    ):
        if before != here:
            raise StateError(
                f"{label(known)} in {ledger.feed.path} was measured with other {what} than {checkpoint.label} holds now; "
                "use another --out for the new ones"
            )


def _answering_then_and_now(
    known: RewardVector, opener: Opener, checkpoint: Checkpoint
) -> Iterator[tuple[str, JsonValue, JsonValue]]:
    """For each component that was asked on a server: what decided the answers. Vectors of earlier versions do not say."""
    try:
        now = opener.serving.answering(checkpoint)
    except HarnessError:
        return
    for component in known.components:
        if ANSWERING in component.detail:
            yield "generation settings or chat template", component.detail[ANSWERING], now


def _measure(
    rows: Sequence[Row],
    opener: Opener,
    ledger: Ledger,
    checkpoint: Checkpoint,
    observer: Observer,
) -> tuple[CheckpointRecord, list[list[Entry]]]:
    """Every component's entry of every row for one checkpoint, from the ledger or measured: the cheapest first."""
    started, clock = _now(), time.perf_counter()
    try:
        record = opener.identifier.identify(checkpoint)
    except HarnessError as error:
        observer.advance(items=sum(row.n_items for row in rows), tokens=0)
        seconds = time.perf_counter() - clock
        return opener.identifier.record(checkpoint), [
            [
                Entry(
                    key="",
                    component=component.config.name,
                    measurement=_failure(component, str(error)),
                    started=started,
                    seconds=seconds,
                )
                for component in row.components
            ]
            for row in rows
        ]
    jobs = [(number, row, component) for number, row in enumerate(rows) for component in row.components]
    found: dict[tuple[int, str], Entry] = {}
    with opener.open(checkpoint) as subject:
        for number, row, component in sorted(jobs, key=lambda job: job[2].rank):
            served = Served(opener, checkpoint) if component.served else None
            entry = measure_component(row, component, subject, record, ledger, observer, served=served)
            found[number, component.config.name] = entry
    return record, [
        [found[number, component.config.name] for component in row.components] for number, row in enumerate(rows)
    ]


@dataclass(frozen=True, slots=True)
class Served:
    """A checkpoint that a component asks on a server."""

    opener: Opener
    checkpoint: Checkpoint

    def answering(self) -> str | None:
        """What decides its answers beside weights and tokenizer. Raises CheckpointError."""
        return self.opener.serving.answering(self.checkpoint)

    def check(self, component: Component) -> None:
        """Refuse what would only fail once a server was started. Raises HarnessError."""
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
    ledger: Ledger | None,
    observer: Observer,
    *,
    served: Served | None = None,
) -> Entry:
    """One component on one opened checkpoint. What goes wrong becomes a failed measurement with its cause.

    Only what is nobody's measurement is raised: StateError (the folder) and SpecError (what the user asked for).
    """
    started, clock = _now(), time.perf_counter()
    try:
        answering = None if served is None else served.answering()
    except HarnessError as error:
        observer.advance(items=component.n_items, tokens=0)
        return Entry(
            key="",
            component=component.config.name,
            measurement=_failure(component, str(error)),
            started=started,
            seconds=time.perf_counter() - clock,
        )
    definition = row.definitions[component.config.name]
    key = entry_key(record.fingerprint or "", record.tokenizer, definition, answering=answering)
    known = ledger.get(key) if ledger else None
    if known is not None:
        observer.advance(items=component.n_items, tokens=0)
        return known
    engine, items = None, {}
    try:
        if served is not None:
            served.check(component)
        with _scratch(ledger, key) as scratch:
            outcome = component.measure(subject, observer, scratch)
        notes = [*subject.notes(), *(served.notes() if served is not None else ())]
        measurement, engine, items = _with_traces(outcome, notes, ledger, scratch), outcome.engine, dict(outcome.items)
        if served is not None:
            measurement = measurement.model_copy(update={"detail": {**measurement.detail, ANSWERING: answering}})
    except (StateError, SpecError):
        raise
    except HarnessError as error:
        measurement = _failure(component, str(error))
    except Exception as error:  # noqa: BLE001 - the boundary where an unforeseen error becomes a failed measurement
        cause = " ".join(str(error).split())[:300]
        measurement = _failure(component, f"unexpected {type(error).__name__}: {cause}")
        if ledger:
            trace = ledger.folder / "errors.log"
            write_atomically(trace, (trace.read_bytes() if trace.exists() else b"") + traceback.format_exc().encode())
    entry = Entry(
        key=key,
        component=component.config.name,
        measurement=measurement,
        engine=engine.name if engine else None,
        dtype=engine.dtype if engine else None,
        device=engine.device if engine else None,
        served=engine.served if engine else None,
        started=started,
        seconds=time.perf_counter() - clock,
        table=items or None,
    )
    return entry if ledger is None else ledger.put(entry)


@contextlib.contextmanager
def _scratch(ledger: Ledger | None, key: str) -> Iterator[Path]:
    """A component's own folder for one measurement: in the run folder it outlives a kill, without one it is temporary."""
    if ledger is not None:
        yield ledger.folder / "work" / key.removeprefix("sha256:")[:16]
        return
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        yield Path(folder) / "work"


def _with_traces(outcome: Outcome, notes: Sequence[str], ledger: Ledger | None, scratch: Path) -> Measurement:
    """The measurement, saying what is left to complete and where its files lie in the run folder."""
    traces: dict[str, JsonValue] = {"n_open": outcome.n_open} if outcome.n_open else {}
    told = [note for note in (outcome.engine.note, *notes) if note]
    if told:
        traces["note"] = "; ".join(told)
    if ledger is not None and outcome.files:
        traces["files"] = [str((scratch / name).relative_to(ledger.folder)) for name in outcome.files]
    measurement = outcome.measurement
    return measurement.model_copy(update={"detail": {**measurement.detail, **traces}}) if traces else measurement


def _failure(component: Component, reason: str) -> Measurement:
    return failed(component.metric, reason, n_items=component.n_items, higher_is_better=component.higher_is_better)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
