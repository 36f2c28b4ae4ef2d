"""The vectors of one trajectory as the next one needs them: those before its step, and their raw values. Pure; grows by `add`."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from harness.core.vector import CheckpointRecord, RewardVector


class Earlier(NamedTuple):
    """What comparable vectors before a step hold: how many there are, and each component's raw values, by step.

    `last`: the highest of them. `best`: of each component, the first one with its best value, of those with a step.
    `vectors`: returns them all, in time proportional to their number.
    """

    n: int
    raws: dict[str, list[float]]
    last: RewardVector | None
    best: Mapping[str, RewardVector]
    vectors: Callable[[], list[RewardVector]]


class _Best:
    """Of each component, the first vector that has its best value. Vectors come by step; one without a step is no candidate."""

    def __init__(self) -> None:
        self.vectors: dict[str, RewardVector] = {}
        self._values: dict[str, float] = {}

    def add(self, vector: RewardVector) -> None:
        """Take in the next vector."""
        if vector.step is None:
            return
        for component in vector.components:
            if component.raw is None:
                continue
            value = component.raw if component.higher_is_better else -component.raw
            if component.name not in self._values or value > self._values[component.name]:
                self._values[component.name], self.vectors[component.name] = value, vector


class History:
    """Grows by `add`, in any order; of a step that was measured again, the vector added last counts.

    `earlier` takes constant time for the next step as long as steps come in order and are comparable with each other.
    """

    def __init__(self, vectors: Iterable[RewardVector] = ()) -> None:
        self._vectors: dict[int | None, RewardVector] = {}
        self._orders: list[int] = []
        """Sorted: of every step that is there."""
        self._columns: dict[str, list[float]] = {}
        self._best = _Best()
        self._specs: set[str] = set()
        self._tokenizers: set[str] = set()
        self._in_order = True
        """`_columns` and `_best` hold every vector's values, by step."""
        for vector in vectors:
            self.add(vector)

    def add(self, vector: RewardVector) -> None:
        """Take in a vector of the trajectory."""
        order = vector.place.order
        self._in_order &= vector.step not in self._vectors and (not self._orders or order > self._orders[-1])
        if vector.step not in self._vectors:
            bisect.insort(self._orders, order)
        self._vectors[vector.step] = vector
        self._specs.add(vector.provenance.spec)
        if vector.checkpoint.tokenizer is not None:
            self._tokenizers.add(vector.checkpoint.tokenizer)
        if self._in_order:
            self._best.add(vector)
            for component in vector.components:
                if component.raw is not None:
                    self._columns.setdefault(component.name, []).append(component.raw)

    def before(self, step: int | None) -> list[RewardVector]:
        """The vectors that come before `step`, by step; all of them where it is None."""
        orders = self._orders if step is None else self._orders[: bisect.bisect_left(self._orders, step)]
        return [self._vectors[None if order < 0 else order] for order in orders]

    def earlier(self, step: int | None, *, spec: str, checkpoint: CheckpointRecord) -> Earlier:
        """Raw values of the vectors before `step` that were measured by the same spec with the same tokenizer."""
        last = not self._orders or step is None or step > self._orders[-1]
        alike = self._specs <= {spec} and (checkpoint.tokenizer is None or self._tokenizers <= {checkpoint.tokenizer})
        if self._in_order and last and alike:
            order = self._orders[-1] if self._orders else None
            newest = None if order is None else self._vectors[None if order < 0 else order]
            return Earlier(len(self._vectors), self._columns, newest, self._best.vectors, lambda: self.before(step))
        vectors = [
            vector
            for vector in self.before(step)
            if vector.provenance.spec == spec and same_tokenizer(vector.checkpoint, checkpoint)
        ]
        raws: dict[str, list[float]] = {}
        best = _Best()
        for vector in vectors:
            best.add(vector)
            for component in vector.components:
                if component.raw is not None:
                    raws.setdefault(component.name, []).append(component.raw)
        return Earlier(len(vectors), raws, vectors[-1] if vectors else None, best.vectors, lambda: vectors)

    def has_after(self, step: int) -> bool:
        """Whether a later step is there."""
        return bool(self._orders) and self._orders[-1] > step

    def previous(self, step: int | None) -> RewardVector | None:
        """The vector of the highest step before `step`; None where that is not known or there is none."""
        if step is None:
            return None
        index = bisect.bisect_left(self._orders, step) - 1
        if index < 0 or self._orders[index] < 0:
            return None
        return self._vectors[self._orders[index]]


def same_tokenizer(first: CheckpointRecord, second: CheckpointRecord) -> bool:
    """Whether per-token scores of two checkpoints are comparable; an unknown tokenizer counts as the same."""
    return None in (first.tokenizer, second.tokenizer) or first.tokenizer == second.tokenizer
