"""From finished measurements to vectors, and the vectors of a run: appended, replaced, put in order. Measures nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from pydantic import JsonValue

import harness
from harness.core.checkpoint import Checkpoint
from harness.core.journal import write_atomically
from harness.core.measurement import Measurement
from harness.core.vector import CheckpointRecord, Mixture, Provenance, RewardVector
from harness.feed.feed import parse_vector
from harness.reward_models.vector import build_vector
from harness.run.ledger import Entry, Ledger
from harness.spec.prepared import Prepared

PACKAGES = ("torch", "transformers", "tokenizers", "peft", "numpy")


def assemble(
    prepared: Prepared,
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
    engines = dict.fromkeys(entry.engine for entry in entries if entry.engine)
    tasks: dict[str, dict[str, JsonValue]] = {
        c.config.name: {**c.task, "definition": prepared.definition(c)} for c in prepared.components
    }
    return build_vector(
        run=run,
        trajectory=trajectory,
        step=step,
        checkpoint=record,
        mixture=mixture,
        variables=prepared.variables,
        configs=[component.config for component in prepared.components],
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
            packages=package_versions(),
            tasks=tasks,
            seed=prepared.spec.seed,
            started=min(entry.started for entry in entries),
            seconds=sum(entry.seconds for entry in entries),
        ),
    )


class RunVectors:
    """The vectors of a run, in memory and in its feed."""

    def __init__(self, prepared: Prepared, ledger: Ledger, run_name: str) -> None:
        path = ledger.feed.path
        self.all = [parse_vector(value, f"{path} line {number}") for number, value in ledger.feed.read()]
        self.n_new = self.n_again = 0
        self._prepared = prepared
        self._ledger = ledger
        self._run = run_name
        self._places = {(vector.trajectory, vector.step): index for index, vector in enumerate(self.all)}
        self._disorder = False

    def at(self, row: Prepared, checkpoint: Checkpoint) -> RewardVector | None:
        """The vector that stands where a row's of this checkpoint belongs."""
        index = self._places.get((row.trajectory(checkpoint.trajectory), checkpoint.step))
        return None if index is None else self.all[index]

    def mix(self, vector: RewardVector, mixture: Mixture | None) -> None:
        """Put in a mixture that came later than its vector."""
        if mixture is not None and mixture != vector.mixture:
            self.all[self._places[vector.trajectory, vector.step]] = vector.model_copy(update={"mixture": mixture})
            self._disorder = True

    def add(
        self, row: Prepared, checkpoint: Checkpoint, record: CheckpointRecord, entries: Sequence[Entry]
    ) -> RewardVector:
        """Assemble a vector and append it; in the place of one measured before, it takes that place."""
        place = row.trajectory(checkpoint.trajectory), checkpoint.step
        history = [vector for vector in self.all if vector.trajectory == place[0]]
        vector = assemble(
            row,
            run=self._run,
            trajectory=place[0],
            step=checkpoint.step,
            record=record,
            mixture=checkpoint.mixture,
            entries=entries,
            history=history,
        )
        if place in self._places:
            self.all[self._places[place]] = vector
            self.n_again += 1
            self._disorder = True
            return vector
        self._ledger.feed.append(vector.to_line())
        self._places[place] = len(self.all)
        self.all.append(vector)
        self.n_new += 1
        self._disorder |= vector.step is not None and any(v.step is not None and v.step > vector.step for v in history)
        return vector

    def settle(self) -> None:
        """Write the feed anew where what came in later changes what was written before."""
        if self._disorder:
            self.all = rebuilt(self._prepared, self.all)
            self._places = {(vector.trajectory, vector.step): index for index, vector in enumerate(self.all)}
            write_atomically(self._ledger.feed.path, "".join(vector.to_line() + "\n" for vector in self.all).encode())
            self._disorder = False


def rebuilt(prepared: Prepared, vectors: Sequence[RewardVector]) -> list[RewardVector]:
    """The feed as if every checkpoint had come in order: each trajectory by step, gains and running statistics anew.

    Needed when an earlier step, a mixture or a failed measurement came in later. Measurements stay as they are.
    """
    rows = {json.dumps(row.variables): row for row in prepared.each()}
    trajectories: dict[str, list[RewardVector]] = {}
    for vector in vectors:
        trajectories.setdefault(vector.trajectory, []).append(vector)
    result: list[RewardVector] = []
    for steps in trajectories.values():
        history: list[RewardVector] = []
        for vector in sorted(steps, key=lambda vector: -1 if vector.step is None else vector.step):
            rebuilt = assemble(
                rows[json.dumps(vector.variables)],
                run=vector.run,
                trajectory=vector.trajectory,
                step=vector.step,
                record=vector.checkpoint,
                mixture=vector.mixture,
                entries=[_entry_of(vector, index) for index in range(len(vector.components))],
                history=history,
            )
            history.append(rebuilt.model_copy(update={"provenance": vector.provenance}))
        result += history
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
