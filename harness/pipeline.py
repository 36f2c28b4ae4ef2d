"""The one loop: checkpoints x components -> reward vectors. Knows components only through their protocol."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Self

from pydantic import JsonValue

import harness
from harness.checkpoints.open import Opener
from harness.core.checkpoint import Checkpoint
from harness.core.component import Component, SilentProgress, Subject
from harness.core.digest import digest_json
from harness.core.errors import HarnessError, SpecError, StateError
from harness.core.journal import write_atomically
from harness.core.measurement import Measurement, failed
from harness.core.vector import CheckpointRecord, Mixture, Provenance, RewardVector
from harness.feed import Feed, parse_vector
from harness.ledger import Entry, Ledger, entry_key, open_run
from harness.plugins import component_class
from harness.reward_models.reference import Reference, label, parse_reference
from harness.reward_models.vector import Standardization, build_vector
from harness.spec import Spec

PACKAGES = ("torch", "transformers", "tokenizers", "peft", "numpy")


class Observer(SilentProgress):
    """Told what the run does. The base class shows nothing; a `with` block holds what a subclass shows on screen."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def starting(self, *, checkpoints: int, pairs: int) -> None:
        """Before the first checkpoint: how much there is to do."""

    def opening(self, checkpoint: Checkpoint) -> None:
        """A checkpoint's turn has come."""

    def finished(self, vector: RewardVector, *, new: bool) -> None:
        """A vector is in the feed; `new` unless it was there before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A spec with its fields read and its reference loaded: ready to measure any checkpoint."""

    spec: Spec
    components: tuple[Component, ...]
    standardization: Standardization
    digest: str
    """Identity of the spec: over its meaning and the content it names, not its formatting."""

    @property
    def n_items(self) -> int:
        """Items scored per checkpoint, at most."""
        return sum(component.n_items for component in self.components)

    @property
    def run(self) -> str:
        """Default name of a run, the same every time."""
        return f"run-{self.digest.removeprefix('sha256:')[:12]}"

    def definition(self, component: Component) -> str:
        """Identity of what a component measures."""
        return digest_json(component.definition)


def prepare(spec: Spec) -> Environment:
    """Read everything the spec names, before any checkpoint is touched. Raises SpecError or DataError."""
    components = tuple(component_class(config.kind).load(config, spec) for config in spec.components)
    definitions = {c.config.name: digest_json(c.definition) for c in components}
    standardization = _standardization(spec)
    standardization.check(definitions)
    meaning: list[JsonValue] = [
        spec.schema_,
        standardization.mode,
        standardization.reference.id if standardization.reference else None,
        spec.dtype,
        spec.seed,
        [
            [c.config.name, c.config.kind, c.config.role, weight, definitions[c.config.name]]
            for c, weight in zip(components, spec.weights(), strict=True)
        ],
    ]
    return Environment(spec=spec, components=components, standardization=standardization, digest=digest_json(meaning))


def _standardization(spec: Spec) -> Standardization:
    if spec.standardize == "none":
        return Standardization(mode="none")
    if spec.standardize == "running":
        return Standardization(mode="running")
    return Standardization(mode="frozen", reference=read_reference(Path(spec.standardize)))


def read_reference(path: Path) -> Reference:
    """Load a frozen reference. Raises SpecError or DataError."""
    try:
        return parse_reference(json.loads(path.read_text(encoding="utf-8")), str(path))
    except FileNotFoundError as error:
        raise SpecError(f"no reference at {path}; `harness fit-reference FEED... -o {path}` makes one") from error
    except (OSError, ValueError) as error:
        raise SpecError(f"cannot read reference {path}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a run did. `feed` holds every vector of the folder, `n_new` of them from this call."""

    feed: Feed
    path: Path
    n_new: int


def run(
    environment: Environment,
    checkpoints: Sequence[Checkpoint],
    *,
    out: Path,
    run_name: str | None = None,
    retry_failed: bool = False,
    observer: Observer | None = None,
) -> Summary:
    """Measure every checkpoint that is not in the folder's feed yet and append its vector. Raises HarnessError.

    A checkpoint that cannot be scored becomes a vector with status `failed`; the rest are still scored.
    """
    observer = observer or Observer()
    spec = environment.spec
    run_name = run_name or environment.run
    opener = Opener(
        dtype=spec.dtype, device=spec.device, trust_remote_code=spec.trust_remote_code, allow_pickle=spec.allow_pickle
    )
    dump: dict[str, JsonValue] = spec.model_dump(mode="json", by_alias=True)
    with open_run(out, run=run_name, spec_digest=environment.digest, spec=dump) as ledger:
        vectors = _read(ledger)
        if retry_failed:
            vectors = _retry(environment, opener, ledger, vectors, checkpoints, observer)
        done = {(vector.trajectory, vector.step): vector for vector in vectors}
        observer.starting(checkpoints=len(checkpoints), pairs=len(checkpoints) * environment.n_items)
        n_new = 0
        for checkpoint in checkpoints:
            observer.opening(checkpoint)
            known = done.get((checkpoint.trajectory, checkpoint.step))
            if known is not None:
                _check_same(known, opener, checkpoint, ledger)
                observer.advance(pairs=environment.n_items, tokens=0)
                observer.finished(known, new=False)
                continue
            record, entries = _measure(environment, opener, ledger, checkpoint, observer)
            vector = assemble(
                environment,
                run=run_name,
                trajectory=checkpoint.trajectory,
                step=checkpoint.step,
                record=record,
                mixture=checkpoint.mixture,
                entries=entries,
                history=[v for v in vectors if v.trajectory == checkpoint.trajectory],
            )
            ledger.feed.append(vector.to_line())
            vectors.append(vector)
            done[(vector.trajectory, vector.step)] = vector
            n_new += 1
            observer.finished(vector, new=True)
        return Summary(feed=Feed(vectors), path=ledger.feed.path, n_new=n_new)


def _read(ledger: Ledger) -> list[RewardVector]:
    return [parse_vector(value, f"{ledger.feed.path} line {number}") for number, value in ledger.feed.read()]


def _check_same(known: RewardVector, opener: Opener, checkpoint: Checkpoint, ledger: Ledger) -> None:
    """Refuse a checkpoint that was overwritten since its vector was written."""
    try:
        now = opener.identify(checkpoint)
    except HarnessError:
        return
    if known.checkpoint.fingerprint in (None, now.fingerprint):
        return
    raise StateError(
        f"{label(known)} in {ledger.feed.path} was measured with other weights than {checkpoint.label} holds now; "
        "use another --out for the new ones"
    )


def _measure(
    environment: Environment,
    opener: Opener,
    ledger: Ledger,
    checkpoint: Checkpoint,
    observer: Observer,
    *,
    again: bool = False,
) -> tuple[CheckpointRecord, list[Entry]]:
    """Every component's entry for one checkpoint: from the ledger, or measured and put there."""
    started, clock = _now(), time.perf_counter()
    try:
        record = opener.identify(checkpoint)
    except HarnessError as error:
        observer.advance(pairs=environment.n_items, tokens=0)
        entries = [
            Entry(
                key="",
                component=component.config.name,
                measurement=_failure(component, str(error)),
                started=started,
                seconds=time.perf_counter() - clock,
            )
            for component in environment.components
        ]
        return opener.record(checkpoint), entries
    with opener.open(checkpoint) as subject:
        return record, [
            measure_component(environment, component, subject, record, ledger, observer, again=again)
            for component in environment.components
        ]


def measure_component(
    environment: Environment,
    component: Component,
    subject: Subject,
    record: CheckpointRecord,
    ledger: Ledger | None,
    observer: Observer,
    *,
    again: bool = False,
) -> Entry:
    """One component on one opened checkpoint. What goes wrong becomes a failed measurement with its cause.

    Only what is nobody's measurement is raised: StateError (the folder) and SpecError (what the user asked for).
    """
    fingerprint = record.fingerprint or ""
    key = entry_key(fingerprint, record.tokenizer, environment.definition(component))
    known = ledger.get(key) if ledger else None
    if known is not None and not (again and known.measurement.status == "failed"):
        observer.advance(pairs=component.n_items, tokens=0)
        return known
    started, clock = _now(), time.perf_counter()
    engine, items = None, {}
    try:
        outcome = component.measure(subject, observer)
        measurement, engine, items = outcome.measurement, outcome.engine, dict(outcome.items)
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
    seconds = time.perf_counter() - clock
    if ledger is None:
        return Entry(
            key=key,
            component=component.config.name,
            measurement=measurement,
            engine=engine.name if engine else None,
            dtype=engine.dtype if engine else None,
            device=engine.device if engine else None,
            started=started,
            seconds=seconds,
        )
    return ledger.put(
        key=key,
        component=component.config.name,
        fingerprint=fingerprint,
        measurement=measurement,
        engine=engine,
        items=items,
        started=started,
        seconds=seconds,
    )


def _failure(component: Component, reason: str) -> Measurement:
    return failed(component.metric, reason, n_items=component.n_items, higher_is_better=component.higher_is_better)


def assemble(
    environment: Environment,
    *,
    run: str,
    trajectory: str,
    step: int | None,
    record: CheckpointRecord,
    mixture: Mixture | None,
    entries: Sequence[Entry],
    history: Sequence[RewardVector],
) -> RewardVector:
    """The vector of one checkpoint from its entries. `history`: the vectors of the same trajectory written before."""
    measurements = [
        entry.measurement.model_copy(update={"detail": {**entry.measurement.detail, "items": entry.items}})
        if entry.items
        else entry.measurement
        for entry in entries
    ]
    ran = next((entry for entry in entries if entry.engine), None)
    tasks: dict[str, dict[str, JsonValue]] = {
        c.config.name: {**c.task, "definition": environment.definition(c)} for c in environment.components
    }
    return build_vector(
        run=run,
        trajectory=trajectory,
        step=step,
        checkpoint=record,
        mixture=mixture,
        configs=[component.config for component in environment.components],
        weights=environment.spec.weights(),
        measurements=measurements,
        standardization=environment.standardization,
        history=history,
        provenance=Provenance(
            harness=harness.__version__,
            spec=environment.digest,
            engine=ran.engine if ran else None,
            dtype=ran.dtype if ran else None,
            device=ran.device if ran else None,
            packages=package_versions(),
            tasks=tasks,
            seed=environment.spec.seed,
            started=min(entry.started for entry in entries),
            seconds=sum(entry.seconds for entry in entries),
        ),
    )


def _retry(
    environment: Environment,
    opener: Opener,
    ledger: Ledger,
    vectors: Sequence[RewardVector],
    checkpoints: Sequence[Checkpoint],
    observer: Observer,
) -> list[RewardVector]:
    """Measure failed vectors of these checkpoints again, and rewrite the feed at once with gains that fit."""
    places = {(checkpoint.trajectory, checkpoint.step): checkpoint for checkpoint in checkpoints}
    result: list[RewardVector] = []
    for vector in vectors:
        checkpoint = places.get((vector.trajectory, vector.step))
        again = checkpoint is not None and any(component.status == "failed" for component in vector.components)
        if checkpoint is not None and again:
            record, entries = _measure(environment, opener, ledger, checkpoint, observer, again=True)
            mixture = checkpoint.mixture
        else:
            record, mixture = vector.checkpoint, vector.mixture
            entries = [_entry_of(vector, index) for index in range(len(vector.components))]
        rebuilt = assemble(
            environment,
            run=vector.run,
            trajectory=vector.trajectory,
            step=vector.step,
            record=record,
            mixture=mixture,
            entries=entries,
            history=[v for v in result if v.trajectory == vector.trajectory],
        )
        result.append(rebuilt if again else rebuilt.model_copy(update={"provenance": vector.provenance}))
    if result:
        write_atomically(ledger.feed.path, "".join(vector.to_line() + "\n" for vector in result).encode())
    return result


def _entry_of(vector: RewardVector, index: int) -> Entry:
    """The measurement inside a vector, as the ledger would have it."""
    component = vector.components[index]
    measurement = Measurement.model_validate(component.model_dump(include=set(Measurement.model_fields)))
    return Entry(
        key="", component=component.name, measurement=measurement, started=vector.provenance.started, seconds=0.0
    )


@cache
def package_versions() -> dict[str, str]:
    """Installed versions of what decides a number."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
