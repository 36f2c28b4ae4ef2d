"""Means with standard errors, and how much of a component's spread is signal. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Estimate(NamedTuple):
    """A mean and its standard error, in the unit of the values; `stderr` is null with fewer than two clusters."""

    mean: float
    stderr: float | None


class Spread(NamedTuple):
    """A mean and a population standard deviation (ddof 0), in the unit of the values."""

    mean: float
    std: float


def clustered_mean(values: Sequence[float] | Floats, clusters: Sequence[Hashable]) -> Estimate:
    """Unweighted mean of `values` (shape [n], finite, n >= 1) with a standard error that respects clusters.

    The cluster-robust sandwich estimator with the C/(C-1) correction:
    SE^2 = C/(C-1) * sum_c (sum_{i in c} (x_i - mean))^2 / n^2.
    With every item its own cluster this is the sample standard deviation over sqrt(n).
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0 or not np.isfinite(x).all():
        raise ValueError("clustered_mean needs at least one value, all of them finite")
    if len(clusters) != x.size:
        raise ValueError(f"{x.size} values but {len(clusters)} cluster labels")
    mean = math.fsum(x.tolist()) / x.size
    sums: dict[Hashable, list[float]] = {}
    for value, cluster in zip(x.tolist(), clusters, strict=True):
        sums.setdefault(cluster, []).append(value - mean)
    n_clusters = len(sums)
    if n_clusters < 2:
        return Estimate(mean, None)
    between = math.fsum(math.fsum(deviations) ** 2 for deviations in sums.values())
    return Estimate(mean, math.sqrt(n_clusters / (n_clusters - 1) * between) / x.size)


def spread(values: Sequence[float]) -> Spread:
    """Mean and population standard deviation (ddof 0), so that the fitted values have standard deviation 1.

    Equal values have a standard deviation of exactly 0: their rounded mean would leave a tiny one to divide by.
    """
    if min(values) == max(values):
        return Spread(values[0], 0.0)
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
    return Spread(mean, math.sqrt(variance))


def reliability(stderr: float | None, std: float | None) -> float | None:
    """max(0, 1 - SE^2 / Var): the share of a component's variance that is not measurement noise, in [0, 1].

    Null where the standard error is unknown or nothing varies.
    """
    if stderr is None or std is None or std <= 0:
        return None
    noise = stderr / std
    return max(0.0, 1.0 - noise * noise)
