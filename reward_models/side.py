"""One side of a comparison: the components of one checkpoint with their items, whatever they were read from. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from harness.core.measurement import Interval, Measurement
from harness.core.vector import Role
from harness.reward_models.items import Items, NoItems


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinate:
    """One component of a side.

    `meaning`: what was measured, by which two are compared; `definition`, where it is there, is a digest over all of it.
    `contents`: item -> digest of its text, where the ids alone do not say which items they are. `weight` and `role`: None
    where what was read has none.
    """

    name: str
    kind: str
    measurement: Measurement
    role: Role | None = None
    weight: float | None = None
    meaning: Mapping[str, JsonValue] = field(default_factory=dict)
    contents: Mapping[str, str] = field(default_factory=dict)
    items: Items | NoItems = field(default=NoItems("not at hand"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A checkpoint as it was measured. `label`: what to call it, and what names it on the command line.

    `trajectory`: which training run it is of, distinct for distinct ones; `training`: its name without a seed. `about`: other
    circumstances (dtype, engine, chat template); a difference there gives a remark and does not prevent the comparison.
    """

    coordinates: Mapping[str, Coordinate]
    label: str = ""
    trajectory: str = ""
    training: str = ""
    step: int | None = None
    tokenizer: str | None = None
    fingerprint: str | None = None
    about: Mapping[str, JsonValue] = field(default_factory=dict)


def limits(measurement: Measurement, error: float | None, *, z: float) -> Interval | None:
    """The measurement's own interval; without one +-z errors."""
    if measurement.interval is not None:
        return measurement.interval
    if measurement.raw is None or error is None:
        return None
    return Interval(measurement.raw - z * error, measurement.raw + z * error)
