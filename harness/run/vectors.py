"""From finished measurements to vectors, and the vectors of a run: appended, replaced, put in order. Measures nothing."""

from __future__ import annotations

from collections.abc import Container, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from pydantic import JsonValue

import harness
from harness.core.checkpoint import Checkpoint
from harness.core.component import ComponentConfig
from harness.core.journal import Follower, Journal, write_atomically
from harness.core.measurement import Measurement
from harness.core.place import Place
from harness.core.uncollected import uncollected
from harness.core.vector import CheckpointRecord, ComponentRecord, Mixture, Provenance, RewardVector
from harness.feed.lines import parse_lines
from harness.reward_models.history import History
from harness.reward_models.vector import build_vector, standardization_of
from harness.run.items import RunItems
from harness.run.ledger import Entry
from harness.spec.prepared import Prepared, Row
from harness.track.tracking import Tracking

PACKAGES = ("torch", "transformers", "tokenizers", "peft", "numpy")


def assemble(
    prepared: Prepared,
    row: Row,
    *,
    run: str,
    place: Place,
    record: CheckpointRecord,
    mixture: Mixture | None,
    entries: Sequence[Entry],
    history: History,
    items: RunItems,
    products: str | None = None,
) -> RewardVector:
    """The vector of one checkpoint by one row, from its entries. `history`: the vectors of the same trajectory."""
    measurements = [
        entry.measurement.model_copy(update={"detail": {**entry.measurement.detail, "items": entry.items}})
        if entry.items
        else entry.measurement
        for entry in entries
    ]
    measurements = [items.completed(one) for one in measurements]  # a ledger's entry may be of an earlier version
    now = {
        component.config.name: items.take(place, component.config.name, entry.table, measurement, component.task)
        for component, entry, measurement in zip(row.components, entries, measurements, strict=True)
    }
    ran = next((entry for entry in entries if entry.engine), None)
    engines = dict.fromkeys(entry.engine for entry in entries if entry.engine)
    tasks: dict[str, dict[str, JsonValue]] = {
        c.config.name: {**c.task, "definition": row.definitions[c.config.name]} for c in row.components
    }
    return build_vector(
        run=run,
        trajectory=place.trajectory,
        step=place.step,
        checkpoint=record,
        mixture=mixture,
        variables=row.variables,
        configs=[component.config for component in row.components],
        weights=prepared.spec.weights(),
        measurements=measurements,
        standardization=prepared.standardization,
        history=history,
        provenance=Provenance(
            harness=harness.__version__,
            spec=prepared.digest,
            engine="+".join(engines) or None,
            dtype=ran.dtype if ran else None,
            device=ran.device if ran else None,
            served=min(
                (entry.served for entry in entries if entry.served), key=lambda how: how == "kept", default=None
            ),
            products=products if ran and ran.device == "cpu" else None,
            host="+".join(dict.fromkeys(entry.host for entry in entries if entry.host)) or None,
            executor="+".join(dict.fromkeys(entry.executor for entry in entries if entry.executor)) or None,
            packages=package_versions(),
            tasks=tasks,
            seed=prepared.spec.seed,
            started=min(entry.started for entry in entries),
            seconds=sum(entry.seconds for entry in entries),
        ),
        evidence=items.evidence(place, record.fingerprint, now, dict(zip(now, measurements, strict=True))),
    )


class Alarm(NamedTuple):
    """A component that has lost more than it may, at the place of the vector that has the alarm."""

    place: Place
    name: str


def _alarms_of(vector: RewardVector) -> list[Alarm]:
    return [Alarm(vector.place, component.name) for component in vector.alarms]


class RunVectors:
    """The vectors of a run, one per place, in memory and (with `feed`) in its file. Live environment and pipeline keep them here."""

    def __init__(
        self, prepared: Prepared, *, run_name: str, feed: Journal | None, tracking: Tracking | None = None
    ) -> None:
        self.all: list[RewardVector] = []
        self.n_new = self.n_again = 0
        self.products: str | None = None
        """The library of float32 products, for the provenance."""
        self._prepared = prepared
        self._run = run_name
        self._feed = feed
        self._tracking = tracking
        self._items = RunItems(None if feed is None else feed.path.parent)
        self._read = None if feed is None else Follower(feed.path)
        self._places: dict[Place, int] = {}
        self._histories: dict[str, History] = {}
        self._stale = False
        """Whether the file differs from what is in memory."""
        self._disturbed: set[str] = set()
        """Trajectories in which an earlier step came in after a later one: their vectors are in the file once settled."""
        self._told: set[Alarm] = set()
        self._alarms: list[Alarm] = []
        """Those that `alarms` has not returned yet."""
        self.refresh()

    def refresh(self) -> None:
        """Read what was appended to the file since it was last read; all of it where it was replaced. Raises DataError."""
        if self._read is None:
            return
        if not self._read.continues():
            self._set([])
        with uncollected():
            found = list(parse_lines(self._read.new(), self._read.path))
            for vector in found:
                if self._is_early(vector.place):
                    self._disturbed.add(vector.trajectory)  # left so by an earlier version that was killed
                self._take(vector)
                self._told.update(_alarms_of(vector))
        self._track(found)

    def _set(self, vectors: list[RewardVector]) -> None:
        self.all, self._places, self._histories = [], {}, {}
        for vector in vectors:
            self._take(vector)

    def _take(self, vector: RewardVector) -> None:
        self._places[vector.place] = len(self.all)
        self.all.append(vector)
        if vector.trajectory not in self._histories:
            self._histories[vector.trajectory] = History()
        self._histories[vector.trajectory].add(vector)

    def at(self, place: Place) -> RewardVector | None:
        """The vector at a place."""
        index = self._places.get(place)
        return None if index is None else self.all[index]

    def mix(self, vector: RewardVector, checkpoint: Checkpoint) -> None:
        """Update a vector with a mixture, or the tokens seen, that became known after it was written."""
        record = vector.checkpoint
        if checkpoint.tokens_seen is not None:
            record = record.model_copy(update={"tokens_seen": checkpoint.tokens_seen})
        mixture = checkpoint.mixture or vector.mixture
        if (mixture, record) != (vector.mixture, vector.checkpoint):
            self.all[self._places[vector.place]] = vector.model_copy(update={"mixture": mixture, "checkpoint": record})
            self._stale = True

    def add(self, row: Row, checkpoint: Checkpoint, record: CheckpointRecord, entries: Sequence[Entry]) -> RewardVector:
        """Assemble a vector and append it, or replace the one measured before at its place.

        One of an earlier step changes those after it: `settle` writes it to the file together with them, so that the file never
        holds stale vectors.
        """
        place = row.place(checkpoint)
        history = self._histories.setdefault(place.trajectory, History())
        vector = assemble(
            self._prepared,
            row,
            run=self._run,
            place=place,
            record=record,
            mixture=checkpoint.mixture,
            entries=entries,
            history=history,
            items=self._items,
            products=self.products,
        )
        if place in self._places:
            self.all[self._places[place]] = vector
            history.add(vector)
            self.n_again += 1
            self._disturbed.add(place.trajectory)
            return vector
        if self._is_early(place):
            self._disturbed.add(place.trajectory)
        if self._feed is not None and self._read is not None and place.trajectory not in self._disturbed:
            self._feed.append(vector.to_line())
            self._read.skip()
        self._take(vector)
        self.n_new += 1
        if place.trajectory not in self._disturbed:
            self._track([vector])
            self._alarms += _alarms_of(vector)
        return vector

    def _is_early(self, place: Place) -> bool:
        """Whether the trajectory has a later step already."""
        known = self._histories.get(place.trajectory)
        return known is not None and known.has_after(place.order)

    def alarms(self) -> list[tuple[RewardVector, ComponentRecord]]:
        """Alarms raised since the last call, each once; only those of settled trajectories."""
        found, self._alarms = self._alarms, []
        told = []
        for alarm in found:
            vector = self.all[self._places[alarm.place]]
            told += [(vector, c) for c in vector.alarms if c.name == alarm.name and alarm not in self._told]
            self._told.add(alarm)
        return told

    def settle(self) -> None:
        """Rewrite the feed if a vector that came later changed earlier ones."""
        if not (self._stale or self._disturbed):
            return
        self._set(rebuilt(self.all, self._items, only=self._disturbed))
        self._alarms += [a for vector in self.all if vector.trajectory in self._disturbed for a in _alarms_of(vector)]
        if self._feed is not None and self._read is not None:
            write_atomically(self._feed.path, "".join(vector.to_line() + "\n" for vector in self.all).encode())
            self._read.skip()
        self._stale, self._disturbed = False, set()
        self._track(self.all)

    def _track(self, vectors: Sequence[RewardVector]) -> None:
        """Pass vectors that are in the feed to the trackers, which send those they have not sent yet."""
        if self._tracking is not None:
            self._tracking.see(vectors)


def rebuilt(
    vectors: Sequence[RewardVector], items: RunItems, *, only: Container[str] | None = None
) -> list[RewardVector]:
    """The feed as if every checkpoint had come in order: each trajectory by step, and (of the trajectories in `only`; None:
    of all) gains, errors and running statistics anew.

    Needed when an earlier step or a failed measurement came in later, or a feed was written by an older version.
    Measurements stay as they are.
    """
    trajectories: dict[str, list[RewardVector]] = {}
    for vector in vectors:
        trajectories.setdefault(vector.trajectory, []).append(vector)
    result: list[RewardVector] = []
    for name, steps in trajectories.items():
        in_order = sorted(steps, key=lambda vector: vector.place.order)
        if only is not None and name not in only:
            result += in_order
            continue
        items.forget(name, {component.name for vector in steps for component in vector.components})
        history = History()
        for vector in in_order:
            result.append(again(vector, history, items))
            history.add(result[-1])
    return result


def again(vector: RewardVector, history: History, items: RunItems) -> RewardVector:
    """A vector assembled anew from what it holds."""
    now = {component.name: items.of(vector, component.name) for component in vector.components}
    return build_vector(
        run=vector.run,
        trajectory=vector.trajectory,
        step=vector.step,
        checkpoint=vector.checkpoint,
        mixture=vector.mixture,
        variables=vector.variables,
        configs=[
            ComponentConfig(name=c.name, kind=c.kind, role=c.role, allowed_loss=c.allowed_loss)
            for c in vector.components
        ],
        weights=[component.weight for component in vector.components],
        measurements=[
            items.completed(Measurement.model_validate(component.model_dump(include=set(Measurement.model_fields))))
            for component in vector.components
        ],
        standardization=standardization_of(vector),
        history=history,
        provenance=vector.provenance,
        evidence=items.evidence(
            vector.place, vector.checkpoint.fingerprint, now, {c.name: c for c in vector.components}
        ),
    )


@cache
def package_versions() -> dict[str, str]:
    """Installed versions of the packages that decide a number."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
