"""Means with standard errors, and how much of a component's spread is signal. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class MeanEstimate(NamedTuple):
    """A mean and its standard error, in the unit of the values; `stderr` is None with fewer than two clusters."""

    mean: float
    stderr: float | None


class Spread(NamedTuple):
    """A mean and a population standard deviation (ddof 0), in the unit of the values."""

    mean: float
    std: float


def clustered_mean(values: Sequence[float] | Floats, clusters: Sequence[Hashable]) -> MeanEstimate:
    """Unweighted mean of `values` (shape [n], finite, n >= 1) with a standard error that respects clusters.

    The cluster-robust sandwich estimator with the C/(C-1) correction:
    SE^2 = C/(C-1) * sum_c (sum_{i in c} (x_i - mean))^2 / n^2.
    With every item its own cluster this is the sample standard deviation over sqrt(n). Raises ValueError for other shapes.
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
        return MeanEstimate(mean, None)
    between = math.fsum(math.fsum(deviations) ** 2 for deviations in sums.values())
    return MeanEstimate(mean, math.sqrt(n_clusters / (n_clusters - 1) * between) / x.size)


def bits_per_byte(
    nats: Sequence[float] | Floats, n_bytes: Sequence[int], clusters: Sequence[Hashable]
) -> MeanEstimate | None:
    """-sum nats / (ln 2 * sum bytes), with the standard error of a ratio; None without bytes.

    That of the mean of bits_j - ratio * bytes_j, over the mean of bytes. Shapes [n], `clusters` as in `clustered_mean`.
    """
    total = sum(n_bytes)
    if not total:
        return None
    bits = -np.asarray(nats, dtype=np.float64) / math.log(2)
    ratio = -math.fsum(np.asarray(nats, dtype=np.float64).tolist()) / (math.log(2) * total)
    error = clustered_mean(bits - ratio * np.asarray(n_bytes, dtype=np.float64), clusters).stderr
    return MeanEstimate(ratio, None if error is None else error * len(bits) / total)


def believable(raw: float | None, stderr: float | None, n_scored: int) -> float | None:
    """A standard error from which something may be derived: one of 0 is not certainty.

    Answers that are all right or all wrong (a value of exactly 0 or 1) count as if one of them had come out otherwise; any
    other error of 0 is none.
    """
    if stderr is None or stderr > 0:
        return stderr
    return 1 / n_scored if raw in (0.0, 1.0) and n_scored > 0 else None


def spread(values: Sequence[float]) -> Spread:
    """Mean and population standard deviation (ddof 0), so that the fitted values have standard deviation 1.

    Equal values have a standard deviation of exactly 0: their rounded mean would leave a tiny one to divide by.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.min() == array.max():
        return Spread(values[0], 0.0)
    mean = math.fsum(values) / len(values)
    away = array - mean
    return Spread(mean, math.sqrt(math.fsum((away * away).tolist()) / len(values)))


def reliability(noise: float | None, known: Spread | None, *, n: int) -> float | None:
    """1 - noise / variance, at least 0: the share of a component's variance over `n` checkpoints that is not noise, in [0, 1].

    `noise`: variance of one checkpoint's mean by the item x checkpoint residual (`residual.py`), and not by one
    checkpoint's standard error over items: items are common to all checkpoints. `known` has the population's variance,
    std^2, so the unbiased one is std^2 n/(n-1). None where noise is not known, or nothing varies.
    """
    if noise is None or known is None or known.std <= 0 or n < 2:
        return None
    ratio = math.sqrt(noise) / known.std
    return max(0.0, 1.0 - ratio * ratio * (n - 1) / n)
