"""The items that are at hand when a vector is assembled: this checkpoint's, earlier ones', and their residual. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from harness.core.vector import RewardVector
from harness.reward_models.history import Earlier
from harness.reward_models.items import Items, NoItems
from harness.reward_models.residual import Residual, extended


class Evidence(Protocol):
    """Gives the items of measurements. `harness.run.items` reads them from a run folder; `HeldItems` has them in memory."""

    def now(self, name: str) -> Items | NoItems:
        """A component's items on the checkpoint whose vector is assembled."""
        ...

    def of(self, vector: RewardVector, name: str) -> Items | NoItems:
        """A component's items as an earlier vector measured them."""
        ...

    def residual(self, name: str, earlier: Earlier) -> Residual | None:
        """The item x checkpoint residual of the earlier vectors and this checkpoint; None where no items are at hand."""
        ...


class Asked(NamedTuple):
    """A component of a vector, by place: what items are kept under."""

    trajectory: str
    step: int | None
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldItems:
    """Evidence in memory, for tests and for callers that have every item.

    HeldItems(current={"code": items}, known={Asked("a", 10, "code"): earlier})
    """

    current: Mapping[str, Items]
    known: Mapping[Asked, Items]

    def now(self, name: str) -> Items | NoItems:
        """As held."""
        return self.current.get(name, NoItems("not at hand"))

    def of(self, vector: RewardVector, name: str) -> Items | NoItems:
        """As held."""
        return self.known.get(Asked(vector.trajectory, vector.step, name), NoItems("not at hand"))

    def residual(self, name: str, earlier: Earlier) -> Residual | None:
        """Over all that is held."""
        found = [self.of(vector, name) for vector in earlier.vectors()]
        return residual_of([*found, self.now(name)])


def residual_of(steps: list[Items | NoItems]) -> Residual | None:
    """Of a trajectory's checkpoints by step; those without items are left out. None where the last has none."""
    if not steps or isinstance(steps[-1], NoItems):
        return None
    made: Residual | None = None
    for found in steps:
        if isinstance(found, Items):
            made = extended(made, found)
    return made
