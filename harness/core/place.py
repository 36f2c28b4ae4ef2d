"""Where a vector stands in a feed. Decided here and nowhere else: a row's place is `Row.place`, a vector's `RewardVector.place`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Place(NamedTuple):
    """(trajectory, step). `step` is None for a checkpoint without one. Equal places hold the same vector."""

    trajectory: str
    step: int | None

    @property
    def order(self) -> int:
        """Sort key within a trajectory: a vector without a step comes first."""
        return -1 if self.step is None else self.step


def suffix(variables: Mapping[str, Any]) -> str:
    """What the values of a spec's `vary` add to the name of a trajectory: `[alpha=1]`, or nothing."""
    values = ",".join(f"{key}={value}" for key, value in variables.items())
    return f"[{values}]" if values else ""
