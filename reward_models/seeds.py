"""Trainings that differ only in their seed: recognised by name, averaged item by item, and their spread. Pure arithmetic.

Errors over items do not contain the variation between training seeds; several seeds do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.reward_models.items import Items, NoItems, layout
from harness.reward_models.statistics import clustered_mean

NAMELESS = "seed"
"""The name of a training whose trajectories are named by their seed alone."""
_SEED = re.compile(r"(^|[^A-Za-z0-9])seed[-_=:. ]?\d+(?![A-Za-z0-9])", re.IGNORECASE)


def training_of(name: str) -> str:
    """The name without the seed in it: `mix-2` of `mix-2-seed1`, `mix-2_seed=3` and `seed2/mix-2`.

    A name without a seed is returned as it is.
    """
    without = _SEED.sub(lambda found: found[1] if found[1] in ("[", "(") else "", name)
    if without == name:
        return name
    for empty, instead in (("[]", ""), ("()", ""), ("[,", "["), ("(,", "(")):
        without = without.replace(empty, instead)
    return without.strip("-_. ,/") or NAMELESS


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedSpread:
    """A value over the seeds of one training: how many there are, their values, and the standard deviation (ddof 1)."""

    values: tuple[float, ...]
    std: float | None

    @property
    def n(self) -> int:
        """Seeds that have a value."""
        return len(self.values)


def seed_spread(values: Sequence[float]) -> SeedSpread:
    """Of the values of one component at one step, a seed each; no deviation of a single one."""
    n = len(values)
    error = clustered_mean(values, range(n)).stderr if n else None
    return SeedSpread(values=tuple(values), std=None if error is None else error * math.sqrt(n))


def seed_error(before: SeedSpread, after: SeedSpread, *, same_seeds: bool = False) -> float | None:
    """Standard error of the difference of the means over seeds, from the seeds alone; None without two seeds on a side.

    `same_seeds`: both sides are steps of the same trajectories, in one order, so that their changes are what varies. Else
    both are taken to vary alike (pooled variance), so one seed against several has an error too.
    """
    if same_seeds and before.n == after.n:
        moved = [now - then for then, now in zip(before.values, after.values, strict=True)]
        std = seed_spread(moved).std
        return None if std is None else std / math.sqrt(len(moved))
    known = [side for side in (before, after) if side.std is not None]
    freedom = sum(side.n - 1 for side in known)
    if not known or not before.n or not after.n:
        return None
    pooled = math.fsum((side.n - 1) * (side.std or 0.0) ** 2 for side in known) / freedom
    return math.sqrt(pooled * (1 / before.n + 1 / after.n))


def mean_items(found: Sequence[Items | NoItems]) -> Items | NoItems:
    """Every item's mean over the seeds, of the items that all of them scored; one seed as it is."""
    for one in found:
        if isinstance(one, NoItems):
            return one
    every = [one for one in found if isinstance(one, Items)]
    if len(every) == 1:
        return every[0]
    first = every[0]
    if len({len(one.unit_interval) for one in every}) > 1:
        return NoItems("the seeds have other members")
    bounded = np.logical_and.reduce(np.stack([one.unit_interval for one in every]), axis=0)
    where, values = first.layout, [one.values for one in every]
    if not all(where.same(one.layout) for one in every):
        places = [{identity: row for row, identity in enumerate(one.layout.ids)} for one in every]
        rows = [row for row, i in enumerate(first.layout.ids) if all(i in place for place in places)]
        strata = first.layout.strata[rows]
        if len(set(strata.tolist())) < len(first.layout.weights):
            return NoItems("no item was scored by every seed")
        ids = [first.layout.ids[row] for row in rows]
        values = [one.values[[place[i] for i in ids]] for one, place in zip(every, places, strict=True)]
        where = layout(
            ids,
            [first.layout.clusters[row] for row in rows],
            strata=strata.tolist(),
            weights=first.layout.weights.tolist(),
            scope=first.layout.scope,
        )
    return replace(first, layout=where, values=np.mean(values, axis=0), unit_interval=bounded)
