"""Eq. 1 of arXiv 2507.15640: from one log-probability per pair to a field's score. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from harness.core.measurement import Measurement, failed
from harness.core.tokens import TokenPair
from harness.reward_models.statistics import clustered_mean

METRIC = "logprob_per_token"


def measure_logprob(
    pairs: Sequence[TokenPair],
    logprob: npt.NDArray[np.float64],
    *,
    n_items: int,
    detail: dict[str, JsonValue] | None = None,
) -> Measurement:
    """Score(M, D) = 1/|D| sum_j 1/|r_j| log P(r_j | q_j), in nats per token, with its standard error over pairs.

    `logprob` has shape [len(pairs)], nats; an entry that is not finite is a failed item: counted, never averaged in.
    `n_items` counts the whole field, pairs that were skipped included. `bits_per_byte` is over the whole field:
    the scored pairs' summed nats / (ln 2 * their bytes).
    """
    finite = np.isfinite(logprob)
    counts: dict[str, JsonValue] = dict(detail or {})
    n_failed = int((~finite).sum())
    if n_failed:
        first = int(np.argmin(finite))
        counts["n_failed"] = n_failed
        cause = f"log-prob not finite in {n_failed} of {len(pairs)} pairs, first in pair {pairs[first].id}"
    if not finite.any():
        return failed(METRIC, cause if n_failed else "no pair of the field could be scored", n_items=n_items)
    scored = [pair for pair, good in zip(pairs, finite, strict=True) if good]
    nats = logprob[finite]
    n_tokens = np.array([pair.n_tokens for pair in scored], dtype=np.float64)
    estimate = clustered_mean(nats / n_tokens, [pair.cluster for pair in scored])
    n_bytes = sum(pair.n_bytes for pair in scored)
    bits, bits_stderr = _bits_per_byte(nats, scored, n_bytes)
    return Measurement(
        metric=METRIC,
        raw=estimate.mean,
        stderr=estimate.stderr,
        n_items=n_items,
        n_scored=len(scored),
        status="ok" if len(scored) == n_items else "partial",
        reason=cause if n_failed else None,
        detail={
            "bits_per_byte": bits,
            "bits_per_byte_stderr": bits_stderr,
            "n_tokens": int(n_tokens.sum()),
            "n_bytes": n_bytes,
            **counts,
        },
    )


def _bits_per_byte(
    nats: npt.NDArray[np.float64], scored: Sequence[TokenPair], n_bytes: int
) -> tuple[float | None, float | None]:
    """A ratio of sums, and its standard error over pairs: that of the mean of bits_j - ratio * bytes_j, over mean bytes."""
    if not n_bytes:
        return None, None
    ratio = -math.fsum(nats.tolist()) / (math.log(2) * n_bytes)
    sizes = np.array([pair.n_bytes for pair in scored], dtype=np.float64)
    error = clustered_mean(-nats / math.log(2) - ratio * sizes, [pair.cluster for pair in scored]).stderr
    return ratio, None if error is None else error * len(scored) / n_bytes
