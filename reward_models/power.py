"""What a comparison could have seen: the minimum detectable effect, and how many items would decide. Pure arithmetic."""

from __future__ import annotations

import math

from harness.reward_models.interval import Z, t_quantile

POWER = 0.8
MOST_TIMES = 1e6
"""Beyond so many times the items nobody decides."""
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


def times_to_decide(distance: float, stderr: float) -> float | None:
    """How many times the items would tell an estimate from a threshold at `distance`, in POWER of all such comparisons.

    Were the estimate the truth. None where it lies on the threshold, or within rounding of it: more than MOST_TIMES.
    """
    needed = (Z + Z_POWER) * stderr
    if abs(distance) * math.sqrt(MOST_TIMES) < needed or distance == 0:
        return None
    return (needed / distance) ** 2


def items_to_decide(distance: float, stderr: float, n_items: int) -> int | None:
    """The same in items, where `n_items` gave the error: never fewer than there are. None as above."""
    times = times_to_decide(distance, stderr)
    return None if times is None else max(n_items, math.ceil(times * n_items))
