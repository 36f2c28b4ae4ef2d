"""The driver of a run: decides what is missing of each checkpoint, submits it to an executor, and is the only writer of what comes back.

Results come in any order; vectors are added in the order of the checkpoints. A measurement is never in flight twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from pydantic import JsonValue

from harness.checkpoints.open import Opener
from harness.core.checkpoint import Checkpoint
from harness.core.component import Component
from harness.core.digest import digest_bytes
from harness.core.errors import HarnessError, StateError
from harness.core.measurement import is_open
from harness.core.place import Place
from harness.core.vector import CheckpointRecord, RewardVector
from harness.reward_models.reference import label
from harness.run.executors.executor import Began, Ended, Event, Executor, Job, Measured, Progressed
from harness.run.ledger import Entry, Ledger, entry_key
from harness.run.measure import ANSWERING, failure, now
from harness.run.observer import Observer
from harness.run.seen import Seen
from harness.run.vectors import RunVectors, package_versions
from harness.spec.prepared import Prepared


@dataclass
class _Turn:
    """A checkpoint whose vectors are still to be added. `entries`: by (number of the row, component)."""

    number: int
    checkpoint: Checkpoint
    rows: list[int]
    following: Checkpoint | None
    record: CheckpointRecord | None = None
    entries: dict[tuple[int, str], Entry] = field(default_factory=dict)
    keys: dict[tuple[int, str], str] = field(default_factory=dict)
    """Ledger keys of what is being measured for it."""
    twins: dict[tuple[int, str], tuple[int, str]] = field(default_factory=dict)
    """Components whose ledger key equals that of another row's component -> that component, the only one measured."""
    ended: bool = False


class Driver:
    """One run's bookkeeping. `places`: of every checkpoint it was given."""

    def __init__(
        self,
        prepared: Prepared,
        *,
        opener: Opener,
        ledger: Ledger,
        vectors: RunVectors,
        executor: Executor,
        observer: Observer,
    ) -> None:
        self._prepared = prepared
        self._opener = opener
        self._ledger = ledger
        self._vectors = vectors
        self._executor = executor
        self._observer = observer
        self.places: set[Place] = set()
        self._turns: dict[int, _Turn] = {}
        """In the order of the checkpoints: those that are not added yet."""
        self._held: list[_Turn] = []
        """Those that need a measurement which is in flight for another checkpoint."""
        self._flying: set[int] = set()
        self._workers: dict[int, str] = {}
        """Number of the job in hand -> name of the worker."""
        self._n_taken = 0
        self._seen = Seen(
            ledger.folder, {**package_versions(), "trust_remote_code": str(prepared.spec.trust_remote_code)}
        )

    def take(self, checkpoint: Checkpoint, *, retry_failed: bool, following: Checkpoint | None) -> None:
        """Begin with a checkpoint; blocks while the executor is at its capacity. Raises HarnessError."""
        self._observer.opening(checkpoint)
        rows: list[int] = []
        for number, row in enumerate(self._prepared.rows):
            place = row.place(checkpoint)
            self.places.add(place)
            known = self._vectors.at(place)
            if (
                known is None
                or (retry_failed and any(is_open(c) for c in known.components))
                or self._cured(known, checkpoint)
            ):
                rows.append(number)
                continue
            self._check_same(known, checkpoint)
            self._vectors.mix(known, checkpoint)
            self._observer.advance(items=row.n_items, tokens=0)
            self._observer.finished(known, new=False)
        if not rows:
            return
        if self._vectors.products is None:
            self._vectors.products = self._ledger.products(self._opener.fix_products)
            self._executor.start(self._ledger.folder, self._vectors.products)
        turn = _Turn(self._n_taken, checkpoint, rows, following)
        self._n_taken += 1
        self._turns[turn.number] = turn
        self._submit(turn)
        while len(self._flying) + len(self._held) >= self._executor.capacity:
            self._handle(self._executor.event())

    def _cured(self, known: RewardVector, checkpoint: Checkpoint) -> bool:
        """Whether a component failed because an option was missing that is given now."""
        spec = self._prepared.spec
        given = {
            "--allow-pickle": spec.allow_pickle,
            "--trust-remote-code": spec.trust_remote_code,
            "--base": checkpoint.base is not None and checkpoint.problem is None,
        }
        reasons = [one.reason for one in known.components if one.status == "failed" and one.reason]
        return any(f"pass {option}" in reason for option, there in given.items() if there for reason in reasons)

    def catch_up(self) -> None:
        """Handle what came in the meantime. Raises HarnessError."""
        while self._flying and (event := self._executor.event(timeout_s=0)) is not None:
            self._handle(event)

    def finish(self) -> None:
        """Wait for everything. Raises HarnessError."""
        while self._flying:
            self._handle(self._executor.event())

    def remember(self) -> None:
        """Store which files were compared, for the next run. Raises StateError."""
        self._seen.write()

    def tell_alarms(self) -> None:
        """Report each alarm to the observer, once."""
        for vector, component in self._vectors.alarms():
            self._observer.alarm(vector, component)

    def _submit(self, turn: _Turn) -> None:
        """Look up what the ledger has of a checkpoint and submit the rest; hold the checkpoint back where that is in flight already."""
        started, clock = now(), time.perf_counter()
        try:
            turn.record = self._opener.identifier.identify(turn.checkpoint)
        except HarnessError as error:
            turn.record = self._opener.identifier.record(turn.checkpoint)
            self._give_up(turn, str(error), started=started, seconds=time.perf_counter() - clock)
            return
        turn.keys.clear()
        turn.twins.clear()
        missing: dict[str, tuple[int, str]] = {}
        for number, component in self._wanted(turn):
            place = number, component.config.name
            if place in turn.entries:
                continue
            try:
                answering = self._opener.serving.answering(turn.checkpoint) if component.served else None
            except HarnessError as error:
                self._observer.advance(items=component.n_items, tokens=0)
                turn.entries[place] = self._failed(component, str(error), started, time.perf_counter() - clock)
                continue
            definition = self._prepared.rows[number].definitions[component.config.name]
            key = entry_key(turn.record.fingerprint or "", turn.record.tokenizer, definition, answering=answering)
            known = self._ledger.get(key)
            if known is not None:
                self._observer.advance(items=component.n_items, tokens=0)
                turn.entries[place] = known
            elif key in missing:  # rows that differ in other components
                turn.twins[place] = missing[key]
            else:
                turn.keys[place] = key
                missing[key] = place
        if not missing:
            self._end(turn)
            return
        in_flight = {key for number in self._flying for key in self._turns[number].keys.values()}
        if in_flight & missing.keys():
            turn.keys.clear()
            self._held.append(turn)
            return
        identified = self._opener.identifier.identified(turn.checkpoint)
        self._seen.keep(turn.checkpoint.label, identified.fingerprint, identified.files)
        self._flying.add(turn.number)
        self._executor.submit(
            Job(
                number=turn.number,
                checkpoint=turn.checkpoint,
                record=turn.record,
                identified=identified,
                missing=tuple(missing.values()),
                following=turn.following,
                affinity=_affinity(turn.checkpoint),
            )
        )

    def _handle(self, event: Event | None) -> None:
        if isinstance(event, Progressed):
            if event.worker is None:
                self._observer.advance(items=event.items, tokens=event.tokens)
            else:
                self._observer.worked(event.worker, items=event.items, tokens=event.tokens)
        elif isinstance(event, Began):
            turn = self._turns[event.number]
            self._workers[event.number] = event.worker
            items = sum(c.n_items for n, c in self._wanted(turn) if (n, c.config.name) in turn.keys)
            self._observer.working(event.worker, turn.checkpoint, items=items)
        elif isinstance(event, Measured):
            turn = self._turns[event.number]
            entry = event.entry.model_copy(update={"executor": self._executor.name})
            place = event.row, entry.component
            turn.entries[place] = stored = self._ledger.put(entry)
            for number, component in self._wanted(turn):
                if turn.twins.get((number, component.config.name)) == place:
                    self._observer.advance(items=component.n_items, tokens=0)
                    turn.entries[number, component.config.name] = stored
        elif isinstance(event, Ended):
            turn = self._turns[event.number]
            self._flying.discard(event.number)
            turn.keys.clear()
            if (worker := self._workers.pop(event.number, None)) is not None:
                self._observer.working(worker, None, items=0)
            if event.error is not None:
                raise event.error
            if event.lost is not None:
                self._give_up(turn, event.lost, started=now(), seconds=0.0)
            else:
                self._end(turn)
            held, self._held = self._held, []
            for other in held:
                self._submit(other)

    def _give_up(self, turn: _Turn, cause: str, *, started: str, seconds: float) -> None:
        """A failed measurement for everything that is missing."""
        for number, component in self._wanted(turn):
            if (number, component.config.name) not in turn.entries:
                self._observer.advance(items=component.n_items, tokens=0)
                turn.entries[number, component.config.name] = self._failed(component, cause, started, seconds)
        self._end(turn)

    def _end(self, turn: _Turn) -> None:
        """Add the vectors of every checkpoint whose turn it is."""
        turn.ended = True
        while self._turns and (first := next(iter(self._turns.values()))).ended:
            del self._turns[first.number]
            assert first.record is not None
            for number in first.rows:
                row = self._prepared.rows[number]
                entries = [first.entries[number, component.config.name] for component in row.components]
                vector = self._vectors.add(row, first.checkpoint, first.record, entries)
                self._observer.finished(vector, new=True)
            self.tell_alarms()

    def _wanted(self, turn: _Turn) -> Iterator[tuple[int, Component]]:
        for number in turn.rows:
            for component in self._prepared.rows[number].components:
                yield number, component

    @staticmethod
    def _failed(component: Component, cause: str, started: str, seconds: float) -> Entry:
        return Entry(
            key="",
            component=component.config.name,
            measurement=failure(component, cause),
            started=started,
            seconds=seconds,
        )

    def _check_same(self, known: RewardVector, checkpoint: Checkpoint) -> None:
        """Refuse a checkpoint that was overwritten since its vector was written."""
        try:
            files = {} if checkpoint.problem else self._opener.identifier.files(checkpoint)
            seen = bool(files) and self._seen.same(checkpoint.label, known.checkpoint.fingerprint, files)
            now = known.checkpoint if seen else self._opener.identifier.identify(checkpoint)
        except HarnessError:
            return
        if known.checkpoint.fingerprint is None:
            return
        for what, before, here in (
            ("weights", known.checkpoint.fingerprint, now.fingerprint),
            ("tokenizer files", known.checkpoint.tokenizer, now.tokenizer),
            *self._answering_then_and_now(known, checkpoint),
        ):
            if before != here:
                raise StateError(
                    f"{label(known)} in {self._ledger.feed.path} was measured with other {what} than {checkpoint.label} holds now; "
                    "use another --out for the new ones"
                )
        self._seen.keep(checkpoint.label, now.fingerprint, files)

    def _answering_then_and_now(
        self, known: RewardVector, checkpoint: Checkpoint
    ) -> Iterator[tuple[str, JsonValue, JsonValue]]:
        """For each served component: the digest of what decided the answers, then and now. Earlier versions' vectors have none."""
        try:
            now = self._opener.serving.answering(checkpoint)
        except HarnessError:
            return
        for component in known.components:
            if ANSWERING in component.detail:
                yield "generation settings or chat template", component.detail[ANSWERING], now


def _affinity(checkpoint: Checkpoint) -> str:
    """Equal for adapters of one base, and for models of one configuration."""
    if checkpoint.base is not None:
        return checkpoint.base
    try:
        return digest_bytes((checkpoint.folder / "config.json").read_bytes())
    except OSError:
        return checkpoint.label
