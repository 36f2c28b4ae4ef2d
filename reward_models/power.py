"""What a comparison could have seen: the minimum detectable effect, and how many items would decide. Pure arithmetic."""

from __future__ import annotations

import math

from harness.reward_models.interval import LEVEL, Z, t_quantile

POWER = 0.8
MOST_TIMES = 1e6
"""No factor above this one is given."""
Z_POWER = 0.8416212335729143
"""The normal quantile of POWER."""


def detectable(stderr: float, df: float | None = None) -> float:
    """The change that is found (two-sided, 5%) in POWER of all comparisons of this error: 2.80 standard errors.

    With few degrees of freedom more: the quantiles are Student's.
    """
    if df is None:
        return (Z + Z_POWER) * stderr
    from scipy.special import stdtrit

    return (t_quantile(df) + float(stdtrit(df, POWER))) * stderr


def detectable_answers(stderr: float, df: float | None, *, n_answers: float, n_clusters: int) -> float | None:
    """The same of `n_answers` answers in `n_clusters` clusters; None where no change is found that often.

    An error estimated from few flips, or none, is too small for the error that a real change would have. So the result is at
    least the rate of answers that become right, with none wrong, at which POWER of all comparisons have enough for the test.
    """
    from scipy.special import betaincinv

    flips = _fewest_flips(df, n_clusters)
    if flips is None or flips > n_clusters:
        return None
    apart = min(n_answers, n_clusters)
    of_clusters = float(betaincinv(flips, apart - flips + 1, POWER))  # so many clusters have a flip
    found = max(detectable(stderr, df), 1 - (1 - of_clusters) ** (apart / n_answers))
    return found if found <= 1 else None


def _fewest_flips(df: float | None, n_clusters: int) -> int | None:
    """How many answers, each of another cluster, have to flip one way for p <= 5%; None where even all of them are too few.

    By McNemar's exact test (`df` None), whose p is 2 / 2^flips, or by Student's t of the clusters' sums.
    """
    if df is None:
        return math.ceil(math.log2(2 / (1 - LEVEL)))
    quantile = t_quantile(df)
    for flips in range(1, n_clusters):
        variance = n_clusters / (n_clusters - 1) * (flips - flips * flips / n_clusters)
        if flips >= quantile * math.sqrt(variance):
            return flips
    return None


def times_to_decide(distance: float, stderr: float) -> float | None:
    """By what factor the items must grow to tell an estimate from a threshold at `distance`, in POWER of all comparisons.

    Assumes that the estimate is the truth. None where it lies on the threshold, or so near that the factor is above MOST_TIMES.
    """
    needed = (Z + Z_POWER) * stderr
    if abs(distance) * math.sqrt(MOST_TIMES) < needed or distance == 0:
        return None
    return (needed / distance) ** 2


def items_to_decide(distance: float, stderr: float, n_items: int) -> int | None:
    """The same in items, where `n_items` gave the error: never fewer than there are. None as above."""
    times = times_to_decide(distance, stderr)
    return None if times is None else max(n_items, math.ceil(times * n_items))
