"""How much a checkpoint's mean moves with the items by chance: the item x checkpoint residual of a trajectory. Pure.

Items are common to all checkpoints, so an item that is hard for all moves all means alike and is no noise between them.
Noise is what is left of x_ij after the item's and the checkpoint's means: var = C/(C-1) sum_c s2_c, where s2_c is the
variance over checkpoints of cluster c's part in the mean's deviation. With items that stand alone this is the two-way
layout's mean square, sum (x_ij - x_i. - x_.j + x..)^2 / ((n-1)(J-1)), over n.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from harness.reward_models.interval import terms
from harness.reward_models.items import Floats, Items


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Residual:
    """The checkpoints of a trajectory so far, as one running mean and sum of squares per cluster (Welford).

    Memory does not grow with checkpoints. They are added in the order of steps, so that results are identical to the bit.
    """

    keys: tuple[Hashable, ...]
    """Of each unit: what it is called in a layout. Shape [n_units]."""
    n: Floats
    """Checkpoints that scored it."""
    mean: Floats
    squares: Floats
    floor: float | None
    """What stands in for a residual of 0; None where values have no bounds."""

    @property
    def noise(self) -> float | None:
        """Variance of one checkpoint's mean by the residual; None before a second checkpoint, or where it is 0 without a floor."""
        again = self.n >= 2
        if not again.any():
            return None
        total = math.fsum((self.squares[again] / (self.n[again] - 1)).tolist()) * len(self.n) / int(again.sum())
        return total if total > 0 else self.floor


def extended(before: Residual | None, found: Items) -> Residual | None:
    """With one more checkpoint; unchanged where a stratum of it has fewer than two clusters."""
    where = found.layout
    if (where.n_units < 2).any():
        return before
    values = terms(found).values
    share = where.weights / where.n_items
    # As if one item of each member had come out otherwise on one of the checkpoints.
    floor = 0.5 * math.fsum((share * share).tolist()) if bool(found.unit_interval.all()) else None
    if before is None:
        n_units = len(values)
        return Residual(keys=where.unit_names, n=np.ones(n_units), mean=values, squares=np.zeros(n_units), floor=floor)
    keys, n, mean, squares = before.keys, before.n.copy(), before.mean.copy(), before.squares.copy()
    if keys == where.unit_names:
        rows = np.arange(len(keys))
    else:
        known = {key: row for row, key in enumerate(keys)}
        rows = np.array([known.setdefault(key, len(known)) for key in where.unit_names])
        keys = tuple(known)
        new = np.zeros(len(keys) - len(n))
        n, mean, squares = (np.concatenate([old, new]) for old in (n, mean, squares))
    n[rows] += 1
    step = values - mean[rows]
    mean[rows] += step / n[rows]
    squares[rows] += step * (values - mean[rows])
    known_floor = None if floor is None or before.floor is None else max(floor, before.floor)
    return Residual(keys=keys, n=n, mean=mean, squares=squares, floor=known_floor)
