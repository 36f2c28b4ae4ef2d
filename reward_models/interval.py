"""Intervals that cover: for means with few clusters or heavy tails, for proportions, and for weighted sums of such. Pure.

A standard error of 0 is not certainty: 18 failures of 18 leave room for a success rate of 0.18. `docs/statistics.md` has
the coverage of every method here, and the command that measures it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from harness.core.measurement import Interval
from harness.reward_models.items import Floats, Items

LEVEL = 0.95
Z = 1.959963984540054
"""The normal quantile of LEVEL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stratum's mean with what its error needs, in the unit of the values.

    `variance` of the mean; None with fewer than two clusters, or where values that have no bounds are all equal.
    `skew`: of the clusters' sums, over sqrt(clusters); `df`: clusters - 1, fewer where their kurtosis is high. `alike`: items
    per cluster (`Layout.alike`). `differences`: whether the values are differences of two measurements.
    """

    mean: float
    variance: float | None
    skew: float
    df: float
    n_items: int
    n_clusters: int
    alike: float
    proportion: bool
    """Whether its values are answers: within [0, 1], and half of them or more 0 or 1 (or all alike)."""
    whole: bool
    """Whether every value is 0 or 1."""
    differences: bool


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Terms:
    """Every unit's share in an estimate's deviation, shape [n_units]: the sum of squares is the variance.

    `floors`: per stratum the variance that stands in for one of 0: as if one item had come out otherwise.
    """

    values: Floats
    floors: Floats
    unknown: bool
    """Whether a stratum has no variance at all (one cluster, or equal values that have no bounds)."""
    variance: float | None
    """Of the estimate; None where it is not known."""


_TERMS: WeakKeyDictionary[Items, Terms] = WeakKeyDictionary()
"""Computed once for items, which never change: one checkpoint is compared with many."""


def terms(found: Items) -> Terms:
    """Of `found.mean`: the cluster-robust sandwich with the C/(C-1) correction in each stratum, as `clustered_mean`."""
    known = _TERMS.get(found)
    if known is None:
        known = _TERMS[found] = _terms(found)
    return known


def _terms(found: Items) -> Terms:
    where = found.layout
    means = found.means
    deviation = found.values - means[where.strata]
    constant = _constant(found)
    deviation[constant[where.strata]] = 0.0  # the rounded mean of equal values would leave a tiny one
    share = where.weights / where.n_items
    n_units = where.n_units
    factor = share * np.sqrt(n_units / np.maximum(n_units - 1, 1))
    values = np.bincount(where.units, deviation, minlength=len(where.unit_keys)) * factor[where.unit_strata]
    squares = np.bincount(where.unit_strata, values * values, minlength=len(share))
    still = squares == 0
    certain = found.are_differences & (means == 0) & ~found.unit_interval
    unknown = bool(((n_units < 2) | (still & ~found.unit_interval & ~certain)).any())
    floors = np.where(still & found.unit_interval, share * share, 0.0)
    variance = None if unknown else math.fsum((values * values).tolist()) + math.fsum(floors.tolist())
    return Terms(values=values, floors=floors, unknown=unknown, variance=variance)


def stderr(found: Items) -> float | None:
    """Of `found.mean`; never 0 for values within [0, 1], where a lack of spread is chance. None where it is not known."""
    variance = terms(found).variance
    return None if variance is None else math.sqrt(variance)


def _constant(found: Items) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Of each stratum, whether its values are all equal."""
    return np.array([bool(np.ptp(found.values[rows]) == 0) for rows in found.members()])


def parts(found: Items, known: Terms | None = None) -> list[Part]:
    """Of each stratum. `known`: its terms, where they are computed already."""
    made = []
    where = found.layout
    known = known or terms(found)
    share = where.weights / where.n_items
    for stratum, rows in enumerate(found.members()):
        x = found.values[rows]
        units = known.values if len(share) == 1 else known.values[where.unit_strata == stratum]
        n_clusters = int(where.n_units[stratum])
        total = float((units * units).sum())
        variance: float | None = (total + float(known.floors[stratum])) / float(where.weights[stratum]) ** 2
        skew, df = 0.0, float(n_clusters - 1)
        if total > 0:
            scaled = units / np.abs(units).max()  # the smallest numbers have no third power
            square = scaled * scaled
            second = float(square.mean())
            skew = float((square * scaled).mean()) / second**1.5 / math.sqrt(n_clusters)
            kurtosis = float((square * square).mean()) / (second * second)
            df = max(1.0, min(df, 2 * n_clusters / max(kurtosis - 1, 1e-9)))
        if n_clusters < 2 or (total == 0 and not found.unit_interval[stratum]):
            variance = None
        n_whole = int(((x == 0) | (np.abs(x) == 1)).sum())
        answers = 2 * n_whole >= len(x) or bool(np.ptp(x) == 0)
        made.append(
            Part(
                mean=float(math.fsum(x.tolist()) / len(x)),
                variance=variance,
                skew=skew,
                df=df,
                n_items=int(where.n_items[stratum]),
                n_clusters=n_clusters,
                alike=float(where.alike[stratum]),
                proportion=bool(found.unit_interval[stratum]) and answers,
                whole=n_whole == len(x),
                differences=found.are_differences,
            )
        )
    return made


def interval(found: Items, every: Sequence[Part] | None = None) -> Interval | None:
    """Where the mean over all such items lies, at LEVEL; None with fewer than two clusters or equal unbounded values.

    Strata are put together by their limits' distances (MOVER, Zou and Donner 2008). `every`: its parts, where they are
    computed already.
    """
    below = above = 0.0
    for part, weight in zip(every or parts(found), found.layout.weights.tolist(), strict=True):
        one = part_interval(part)
        if one is None:
            return None
        below += (weight * (part.mean - one.low)) ** 2
        above += (weight * (one.high - part.mean)) ** 2
    mean = found.mean
    return Interval(mean - math.sqrt(below), mean + math.sqrt(above))


def part_interval(part: Part) -> Interval | None:
    """Of one stratum's mean."""
    if part.variance is None:
        return None
    if part.proportion and not part.differences:
        return wilson(part.mean, effective_n(part))
    if part.proportion:
        return _interval_of_changes(part)
    return _skewed(part)


def effective_n(part: Part) -> float:
    """Independent answers with the same error: n over the design effect, at least the number of clusters, at most that of
    items (or above it for values between 0 and 1, which vary less than answers).

    The design effect is shrunk towards that of clusters whose items agree, with the weight of half a success: with few
    successes its own estimate may by chance be far too low.
    """
    assert part.variance is not None
    p, n = part.mean, part.n_items
    alone = p * (1 - p) / n
    successes = n * min(p, 1 - p)
    effect = part.variance / alone if alone > 0 else part.alike
    drawn = (effect * successes + part.alike * 0.5) / (successes + 0.5)
    return min(max(n / drawn, float(part.n_clusters)), float(n) if part.whole else math.inf)


def wilson(p: float, n: float, *, z: float = Z) -> Interval:
    """Wilson's score interval of a proportion from `n` (effective) answers, within [0, 1]."""
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if p == 0 else max(0.0, middle - half)
    return Interval(low, 1.0 if p == 1 else min(1.0, middle + half))


def _interval_of_changes(part: Part) -> Interval:
    """Of differences between answers within [0, 1]: Student's t on an error that is never 0."""
    assert part.variance is not None
    half = t_quantile(part.n_clusters - 1) * math.sqrt(part.variance)
    return Interval(max(-1.0, part.mean - half), min(1.0, part.mean + half))


def _skewed(part: Part) -> Interval:
    """Hall's (1992) cubic for skewed values, with the t quantile at the degrees of freedom that the kurtosis leaves."""
    assert part.variance is not None
    error, quantile = math.sqrt(part.variance), t_quantile(part.df)
    return Interval(part.mean - error * uncubed(quantile, part.skew), part.mean - error * uncubed(-quantile, part.skew))


def uncubed(x: float, skew: float) -> float:
    """The t statistic whose skewness-corrected value is `x`."""
    if abs(skew) < 1e-9:
        return x
    return 3 / skew * (math.cbrt(1 + skew * (x - skew / 6)) - 1)


def cubed(t: float, skew: float) -> float:
    """The skewness-corrected value of a t statistic (Hall 1992); monotone."""
    return t + skew * t * t / 3 + skew * skew * t**3 / 27 + skew / 6


def t_quantile(df: float) -> float:
    """Of Student's t, two-sided at LEVEL; `df` may be a fraction."""
    from scipy.special import stdtrit

    return float(stdtrit(df, (1 + LEVEL) / 2))


def beyond(value: float, error: float, df: float | None) -> bool:
    """Whether a value is beyond its standard error at LEVEL; `df` None: not known (a feed of an earlier version)."""
    return abs(value) > (Z if df is None else t_quantile(df)) * error


def t_tail(t: float, df: float) -> float:
    """Two-sided p of a t statistic."""
    from scipy.special import stdtr

    return float(2 * stdtr(df, -abs(t)))
