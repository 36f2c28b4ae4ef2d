"""Eq. 1 of arXiv 2507.15640: from one log-probability per pair to a field's score. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from harness.core.measurement import Measurement, failed
from harness.core.tokens import TokenPair
from harness.reward_models.statistics import bits_per_byte, clustered_mean

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
    bits = bits_per_byte(nats, [pair.n_bytes for pair in scored], [pair.cluster for pair in scored])
    return Measurement(
        metric=METRIC,
        raw=estimate.mean,
        stderr=estimate.stderr,
        n_items=n_items,
        n_scored=len(scored),
        status="ok" if len(scored) == n_items else "partial",
        reason=cause if n_failed else None,
        detail={
            "bits_per_byte": None if bits is None else bits.mean,
            "bits_per_byte_stderr": None if bits is None else bits.stderr,
            "n_tokens": int(n_tokens.sum()),
            "n_bytes": n_bytes,
            **counts,
        },
    )
