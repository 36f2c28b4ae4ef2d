"""Whether a source component has lost more than is allowed since its best, over any number of looks. Pure, no files.

Every look at a growing trajectory may compare a step with any earlier one, and the best of those is chosen by the same
noisy values. So every pair of steps, looked at or not, has its share of the error (`share`; all shares sum to ALARM_ERROR),
and a step's `bound` holds at the share of its pair: with a probability of 1 - ALARM_ERROR every bound of a trajectory is at
most the true loss, whichever pairs were chosen, however long it grows, over all source components. Items are common to all
checkpoints, so losses are paired; nothing is assumed of how one step's values depend on another's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.core.component import ALLOWED_LOSS, ComponentConfig
from harness.core.measurement import Measurement
from harness.reward_models.evidence import Evidence
from harness.reward_models.history import Earlier
from harness.reward_models.interval import parts, terms, uncubed
from harness.reward_models.items import Items, NoItems
from harness.reward_models.paired import differences

ALARM_ERROR = 0.05
"""Probability of any false alarm in a trajectory, all its source components and looks together."""
EVEN_LOOKS = 100
"""Half of the error is spread evenly over the pairs of so many looks, half over all of them, the early ones first."""
LARGEST_BET = 0.9
SYMMETRIC = 2 * math.exp(3) / 9
"""P(S >= y V) is at most this times a normal's tail for a sum S of symmetric terms over the root V of their squares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What a source component has lost since its best step. `loss` and `loss_bound` are positive where it is worse now.

    `alarm`: whether the bound is beyond what is allowed; None where it is not known. `why` gives the reason, but for what is
    always so: not a source, no value, no earlier step.
    """

    allowed_loss: float | None = None
    best_step: int | None = None
    loss: float | None = None
    loss_bound: float | None = None
    alarm: bool | None = None
    why: str | None = None


def watched(
    config: ComponentConfig,
    measurement: Measurement,
    earlier: Earlier,
    *,
    step: int | None,
    now: Items | NoItems,
    evidence: Evidence | None,
    n_sources: int,
) -> Watched:
    """One component at a step of its trajectory, whose earlier vectors are `earlier`; only a source is watched.

    `n_sources`: components of the vector that are watched, which share the error.
    """
    if config.role != "source":
        return Watched()
    allowed = ALLOWED_LOSS if config.allowed_loss is None else config.allowed_loss
    best = earlier.best.get(config.name)
    if best is None or step is None or measurement.raw is None or evidence is None:
        return Watched(allowed_loss=allowed)
    before = evidence.of(best, config.name)
    lost: Items | NoItems
    if isinstance(now, NoItems):
        lost = now
    elif isinstance(before, NoItems):
        lost = before
    else:
        lost = differences(now, before) if measurement.higher_is_better else differences(before, now)
    if isinstance(lost, NoItems):
        return Watched(allowed_loss=allowed, best_step=best.step, why=lost.reason)
    look = len(earlier.raws[config.name]) + 1
    low = loss_bound(lost, error=ALARM_ERROR / n_sources * share(look))
    return Watched(
        allowed_loss=allowed,
        best_step=best.step,
        loss=lost.mean,
        loss_bound=low,
        alarm=None if low is None else low > allowed,
        why="too few clusters for so many looks, or equal items" if low is None else None,
    )


def share(look: int) -> float:
    """Of the error, for each pair of the `look`-th step of a trajectory (from 2) with one before it. Over all pairs: 1."""
    even = 2 / (EVEN_LOOKS * (EVEN_LOOKS - 1)) if look <= EVEN_LOOKS else 0.0
    return 0.5 / (look * (look - 1) ** 2) + 0.5 * even


def loss_bound(lost: Items, *, error: float) -> float | None:
    """Lower confidence bound of the mean of `lost` (differences, positive where worse): above it with a probability of at
    most `error`. None where the clusters are too few for a bound at such an error.
    """
    if all(part.proportion for part in parts(lost)):
        return _bound_of_answers(lost, error)
    return _bound_of_values(lost, error)


def _bound_of_answers(lost: Items, error: float) -> float:
    """Of differences within [-1, 1], exact for any number of clusters and any distribution: by betting.

    Of Y_c, a cluster's part in the mean over its largest possible size, E prod_c (1 + b Y_c) <= exp(b sum_c E Y_c) for a
    bet b in [0, 1), so the product over exp(b k loss), with sum_c E Y_c = k loss, is an e-value. The bets share the error.
    """
    where = lost.layout
    share_of_item = (where.weights / where.n_items)[where.strata]
    scale = float(np.bincount(where.units, share_of_item).max())
    y = np.bincount(where.units, share_of_item * lost.values) / scale
    n_bets = 1 + math.ceil(math.log2(len(y)) / 2)
    bets = LARGEST_BET * 0.5 ** np.arange(n_bets)
    wealth = np.log1p(np.outer(bets, y)).sum(axis=1)
    return float(((wealth - math.log(n_bets / error)) / bets).max()) * scale


def _bound_of_values(lost: Items, error: float) -> float | None:
    """Of differences without bounds: exact where they are symmetric about their mean, however heavy their tails
    (self-normalised sums, Pinelis 1994), and corrected for skewness (Hall 1992) where that is to the safe side.
    """
    known = terms(lost)
    if known.unknown:
        return None
    u = known.values
    if not u.any():
        return lost.mean  # all exactly 0: the same weights
    square = float(u @ u)
    df = len(u) - len(lost.layout.weights)
    y = _normal_quantile(error / SYMMETRIC)
    if y * y >= df + 1 or square == 0:
        return None
    t = y * math.sqrt(df / (df + 1 - y * y))
    scaled = u / np.abs(u).max()  # the smallest numbers have no third power
    skew = float((scaled**3).sum()) / float((scaled * scaled).sum()) ** 1.5
    return lost.mean - math.sqrt(square) * max(t, uncubed(t, skew))


def _normal_quantile(tail: float) -> float:
    """What a standard normal exceeds with a probability of `tail`."""
    from scipy.special import ndtri

    return float(-ndtri(tail))
