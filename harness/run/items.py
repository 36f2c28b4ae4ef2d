"""The items of a run while its vectors are assembled: the latest in memory, earlier ones read from the run folder.

Decides nothing about errors (`reward_models` does); knows where per-item scores lie and reads as few of them as it can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import JsonValue

from harness.core.measurement import Measurement
from harness.core.place import Place
from harness.core.vector import ComponentRecord, RewardVector
from harness.feed.items import read_table
from harness.reward_models.completed import COLUMNS as COMPLETING
from harness.reward_models.completed import completed, is_complete
from harness.reward_models.evidence import Asked
from harness.reward_models.history import Earlier
from harness.reward_models.items import Items, Layout, NoItems, scored_items
from harness.reward_models.residual import Residual, extended
from harness.run.residuals import NOTHING, Kept, KeptResiduals, linked

HELD_BYTES = 256 * 2**20
"""Bytes of values kept in memory at most, least recently used dropped first (a best step is used at every step, and stays);
without a run folder what is dropped is lost."""
Table = Mapping[str, Sequence[Any]]


class _Seen(NamedTuple):
    """The residual of a component's trajectory up to `last`."""

    last: tuple[Place, str | None]
    kept: Kept


class _Held(NamedTuple):
    """Items in memory, with the file they are in (None: no run folder), which tells apart what was measured twice at one place."""

    path: JsonValue
    items: Items


class RunItems:
    """Items by place and component. `folder`: the run folder; None where nothing is written.

    `keep_every`: after so many steps of a trajectory its residuals are kept on disk.
    """

    def __init__(self, folder: Path | None, *, keep_every: int = 32, held_bytes: int = HELD_BYTES) -> None:
        self.folder = folder
        self._held_bytes = held_bytes
        self._keep_every = keep_every
        self._kept = None if folder is None else KeptResiduals(folder)
        self._held: dict[Asked, _Held] = {}
        self._bytes = 0
        self._layouts: dict[str, Layout] = {}
        self._residuals: dict[tuple[str, str], _Seen] = {}

    def take(
        self, place: Place, name: str, table: Table | None, measurement: Measurement, task: Mapping[str, JsonValue]
    ) -> Items | NoItems:
        """The items of a measurement that is about to become part of a vector; kept for the next step."""
        asked = Asked(place.trajectory, place.step, name)
        self._drop(asked)
        path = measurement.detail.get("items")
        if table is None and self.folder is not None and isinstance(path, str):
            table = read_table(self.folder / path)
        if table is None:
            return NoItems("its items are not at hand")
        found = scored_items(table, measurement, task)
        if isinstance(found, NoItems):
            return found
        known = self._layouts.setdefault(name, found.layout)
        if known.same(found.layout):
            found = replace(found, layout=known)  # held once for all checkpoints
        self._held[asked] = _Held(path, found)
        self._bytes += found.values.nbytes
        while self._bytes > self._held_bytes and len(self._held) > 1:
            self._drop(next(iter(self._held)))
        return found

    def completed(self, measurement: Measurement) -> Measurement:
        """The measurement with details that an earlier version did not compute, from its stored items; else as it is."""
        if is_complete(measurement.detail):
            return measurement
        path = measurement.detail.get("items")
        if path is None and measurement.n_scored == 0:
            return completed(measurement, {})  # nothing was scored, so there are no items to ask
        if self.folder is None or not isinstance(path, str):
            return measurement
        table = read_table(self.folder / path, COMPLETING)
        return measurement if table is None else completed(measurement, table)

    def of(self, vector: RewardVector, name: str) -> Items | NoItems:
        """The items of a vector that was assembled before: its own, not those of another one of its step."""
        asked = Asked(vector.trajectory, vector.step, name)
        component = _component(vector, name)
        held = self._held.pop(asked, None)
        if held is not None:
            self._held[asked] = held  # asked for last
            if held.path == component.detail.get("items"):
                return held.items
        return self.take(vector.place, name, None, component, vector.provenance.tasks.get(name, {}))

    def evidence(
        self,
        place: Place,
        fingerprint: str | None,
        now: Mapping[str, Items | NoItems],
        measurements: Mapping[str, Measurement],
    ) -> RunEvidence:
        """What `build_vector` may ask for at a place."""
        return RunEvidence(self, place=place, fingerprint=fingerprint, current=now, measurements=measurements)

    def forget(self, trajectory: str, names: Iterable[str]) -> None:
        """Drop a trajectory's residuals, because its earlier steps changed: they are computed anew."""
        for name in names:
            self._residuals.pop((trajectory, name), None)
            if self._kept is not None:
                self._kept.forget(trajectory, name)

    def residual(
        self,
        place: Place,
        fingerprint: str | None,
        name: str,
        now: Items | NoItems,
        measurement: Measurement,
        earlier: Earlier,
    ) -> Residual | None:
        """The residual over the earlier vectors and this one, extended from what was computed for the last of them."""
        seen = self._residuals.get((place.trajectory, name))
        last = None if earlier.last is None else (earlier.last.place, earlier.last.checkpoint.fingerprint)
        if earlier.last is None:
            before = Kept(0, NOTHING, None)
        elif seen is not None and (seen.kept.n, seen.last) == (earlier.n, last):
            before = seen.kept
        else:
            before = self._resumed(place.trajectory, name, earlier.vectors())
        after = Kept(
            earlier.n + 1,
            linked(before.chain, step=place.step, fingerprint=fingerprint, measurement=measurement),
            extended(before.residual, now) if isinstance(now, Items) else before.residual,
        )
        self._residuals[place.trajectory, name] = _Seen((place, fingerprint), after)
        if self._kept is not None and after.n % self._keep_every == 0:
            self._kept.write(place.trajectory, name, after)
        return after.residual if isinstance(now, Items) else None

    def _resumed(self, trajectory: str, name: str, vectors: Sequence[RewardVector]) -> Kept:
        """The residual over vectors that an earlier process measured: its stored one, extended by the items of later steps."""
        kept = None if self._kept is None or len(vectors) < self._keep_every else self._kept.read(trajectory, name)
        chain, made = NOTHING, Kept(0, NOTHING, None)
        chains = []
        for vector in vectors:
            component = _component(vector, name)
            chain = linked(chain, step=vector.step, fingerprint=vector.checkpoint.fingerprint, measurement=component)
            chains.append(chain)
        if kept is not None and kept.n <= len(vectors) and chains[kept.n - 1] == kept.chain:
            made = kept
        residual = made.residual
        for vector in vectors[made.n :]:
            found = self.of(vector, name)
            residual = extended(residual, found) if isinstance(found, Items) else residual
        return Kept(len(vectors), chain, residual)

    def _drop(self, asked: Asked) -> None:
        old = self._held.pop(asked, None)
        if old is not None:
            self._bytes -= old.items.values.nbytes


def _component(vector: RewardVector, name: str) -> ComponentRecord:
    return next(component for component in vector.components if component.name == name)


class RunEvidence:
    """`Evidence` for one vector of a run."""

    def __init__(
        self,
        store: RunItems,
        *,
        place: Place,
        fingerprint: str | None,
        current: Mapping[str, Items | NoItems],
        measurements: Mapping[str, Measurement],
    ) -> None:
        self._store = store
        self._place = place
        self._fingerprint = fingerprint
        self._current = current
        self._measurements = measurements

    def now(self, name: str) -> Items | NoItems:
        """The items of this checkpoint."""
        return self._current[name]

    def of(self, vector: RewardVector, name: str) -> Items | NoItems:
        """The items of an earlier one."""
        return self._store.of(vector, name)

    def residual(self, name: str, earlier: Earlier) -> Residual | None:
        """Of the trajectory up to this checkpoint."""
        return self._store.residual(
            self._place, self._fingerprint, name, self.now(name), self._measurements[name], earlier
        )
