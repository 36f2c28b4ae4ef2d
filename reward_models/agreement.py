"""Whether a cheap score orders mixtures as the target does: decision accuracy and rank correlation. Pure arithmetic.

Intervals are over mixtures, by bootstrap. Of mixtures in perfect order every draw is in perfect order; their interval is
widened (`_least_of_perfect`). Noise in either score biases both measures towards chance; they are corrected for that
through the correlation of two normal variables that would give them: Spearman's r_s = 6/pi asin(r/2), and the share of pairs
in one order 1/2 + asin(r)/pi, with r divided by the root of both reliabilities (Spearman 1904).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.core.measurement import Interval
from harness.reward_models.interval import LEVEL, Z
from harness.reward_models.items import Floats
from harness.reward_models.signal import MixtureScores, reliabilities, signal_of

DRAWS = 2000
FEWEST = 3
"""Mixtures without which no agreement is computed."""
Rows = np.ndarray[tuple[int, int], np.dtype[np.int64]]
Turn = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated:
    """A value with its 95% interval over mixtures, as seen and corrected for noise; `corrected` is None where a score's
    spread may be all noise."""

    seen: float
    interval: Interval
    corrected: float | None
    corrected_interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Of a score with a target over `n_mixtures` mixtures.

    `decisions`: share of pairs of mixtures that both put in one order, chance 0.5; pairs that are equal in the target are left
    out, those that are equal in the score count half. `rank`: Spearman's correlation. None where one of the scores does not vary.
    `score_reliability`, `target_reliability`: what the correction divides by; 1 where the noise is not known.
    """

    n_mixtures: int
    decisions: Estimated | None
    rank: Estimated | None
    score_reliability: float
    target_reliability: float


def agreement(score: MixtureScores, target: MixtureScores, *, seed: int = 0, draws: int = DRAWS) -> Agreement:
    """Of two scores on the same mixtures, in one order. Raises ValueError for unequal lengths, or fewer than FEWEST."""
    n = len(score.mean)
    if len(target.mean) != n or n < FEWEST:
        raise ValueError(f"agreement needs the same mixtures in one order, {FEWEST} at least")
    everything = np.arange(n)[None, :]
    drawn = np.random.default_rng(seed).integers(0, n, size=(draws, n))
    drawn = drawn[[len(np.unique(row)) >= FEWEST for row in drawn]]
    rows = np.concatenate([everything, drawn])
    of_score, of_target = reliabilities(score, rows), reliabilities(target, rows)
    shrinkage = np.sqrt(of_score * of_target)
    varies = bool(np.ptp(score.mean) > 0 and np.ptp(target.mean) > 0)
    if False in (signal_of(score).moves, signal_of(target).moves):
        shrinkage = np.zeros(len(rows))
    ranks = _spearman(score.mean, target.mean, rows) if varies else None
    right = _in_one_order(score.mean, target.mean, rows) if varies else None
    return Agreement(
        n_mixtures=n,
        decisions=None if right is None else _estimated(right, shrinkage, _r_of_decisions, _decisions_of_r, n=n),
        rank=None if ranks is None else _estimated(ranks, shrinkage, _r_of_spearman, _spearman_of_r, n=n),
        score_reliability=float(of_score[0]),
        target_reliability=float(of_target[0]),
    )


def _spearman(x: Floats, y: Floats, rows: Rows) -> Floats:
    """Of each draw, shape [n_draws]; NaN where one of the two does not vary in it."""
    from scipy.stats import rankdata

    first, second = (rankdata(values[rows], axis=1) for values in (x, y))
    first -= first.mean(axis=1, keepdims=True)
    second -= second.mean(axis=1, keepdims=True)
    scale = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = np.clip((first * second).sum(axis=1) / scale, -1.0, 1.0)
    return found


def _in_one_order(x: Floats, y: Floats, rows: Rows) -> Floats:
    """Share of each draw's pairs of different mixtures that both order alike, shape [n_draws]; NaN without such a pair."""
    n = len(x)
    counts = np.zeros((len(rows), n))
    np.add.at(counts, (np.arange(len(rows))[:, None], rows), 1.0)
    by_score, by_target = np.sign(x[:, None] - x), np.sign(y[:, None] - y)
    decided = np.triu((by_target != 0).astype(np.float64), 1)
    alike = decided * np.where(by_score == 0, 0.5, by_score == by_target)
    total = np.einsum("di,ij,dj->d", counts, decided, counts, optimize=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = np.einsum("di,ij,dj->d", counts, alike, counts, optimize=True) / total
    return found


def _r_of_spearman(value: Floats) -> Floats:
    return 2 * np.sin(math.pi * value / 6)


def _spearman_of_r(r: Floats) -> Floats:
    return 6 / math.pi * np.arcsin(r / 2)


def _r_of_decisions(value: Floats) -> Floats:
    return np.sin(math.pi * (value - 0.5))


def _decisions_of_r(r: Floats) -> Floats:
    return 0.5 + np.arcsin(r) / math.pi


def _estimated(values: Floats, shrinkage: Floats, to_r: Turn, from_r: Turn, *, n: int) -> Estimated:
    """`values` and `shrinkage`: the first of the `n` mixtures themselves, the others of draws of them."""
    with np.errstate(divide="ignore", invalid="ignore"):
        corrected = from_r(np.clip(to_r(values) / shrinkage, -1.0, 1.0))
    known = bool(shrinkage[0] > 0)  # the draws' own may be 0: chance then, and an interval as wide as there is
    interval, of_corrected = _percentiles(values[1:]), _percentiles(corrected[1:]) if known else None
    r = float(to_r(values[:1])[0])
    if abs(r) > 1 - 1e-9:
        limit = np.array([math.copysign(_least_of_perfect(n), r) if n > FEWEST else -r])
        interval = _with(interval, from_r(limit))
        if of_corrected is not None:
            of_corrected = _with(of_corrected, from_r(np.clip(limit / shrinkage[0], -1.0, 1.0)))
    return Estimated(
        seen=float(values[0]),
        interval=interval,
        corrected=float(corrected[0]) if known else None,
        corrected_interval=of_corrected,
    )


def _least_of_perfect(n: int) -> float:
    """The normal correlation that `n` mixtures in perfect order leave room for, at LEVEL.

    As if two neighbours had changed places: Spearman's 1 - 12 / (n (n^2 - 1)), with its error 1.06 / sqrt(n - 3) on Fisher's
    scale (Fieller 1957).
    """
    one_swap = 1 - 12 / (n * (n * n - 1))
    return math.tanh(math.atanh(one_swap) - Z * 1.06 / math.sqrt(n - 3))


def _with(interval: Interval, limit: Floats) -> Interval:
    value = float(limit[0])
    return Interval(min(interval.low, value), max(interval.high, value))


def _percentiles(values: Floats) -> Interval:
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return Interval(float(low), float(high))
