"""A field under one tokenizer: token ids and where each response starts. No text, no tokenizer, no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.core.errors import DataError

Overflow = Literal["fail", "skip", "truncate"]
"""What happens to a pair that is longer than the context; q is cut from the left, r never."""

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPair:
    """One pair's ids: `ids[:n_context]` is conditioned on, `ids[n_context:]` is scored. 1 <= n_context < len(ids)."""

    id: str
    ids: Ids
    n_context: int
    n_bytes: int
    cluster: str
    truncated: bool = False

    @property
    def n_tokens(self) -> int:
        """|r| of Eq. 1: the response's tokens."""
        return len(self.ids) - self.n_context


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSet:
    """Every pair of a field, in field order. `n_boundary` pairs had q and r encoded apart (see encode.py)."""

    pairs: tuple[TokenPair, ...]
    n_boundary: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The pairs that fit a context of some length, the positions of those skipped, and how many were truncated."""

    pairs: tuple[TokenPair, ...]
    skipped: frozenset[int]
    n_truncated: int


def fit_context(pairs: Sequence[TokenPair], max_length: int, overflow: Overflow) -> Fitted:
    """Apply the overflow policy for a model that reads at most `max_length` tokens.

    A pair of n tokens needs a context of n - 1: the last token is predicted, never read. Raises DataError under
    `fail`, and under `truncate` where a response alone does not fit, because r is never cut.
    """
    kept: list[TokenPair] = []
    skipped: set[int] = set()
    n_truncated = 0
    for position, pair in enumerate(pairs):
        excess = len(pair.ids) - 1 - max_length
        if excess <= 0:
            kept.append(pair)
        elif overflow == "skip":
            skipped.add(position)
        elif overflow == "truncate" and pair.n_tokens <= max_length:
            kept.append(replace(pair, ids=pair.ids[excess:], n_context=pair.n_context - excess, truncated=True))
            n_truncated += 1
        else:
            where = "response alone" if overflow == "truncate" else "pair"
            size = pair.n_tokens if overflow == "truncate" else len(pair.ids) - 1
            advice = "overflow: skip" if overflow == "truncate" else "overflow: skip or overflow: truncate"
            raise DataError(
                f"pair {pair.id}: {where} of {size} tokens exceeds the model's context of {max_length}; "
                f"set {advice} in the spec (or --overflow), or shorten the field"
            )
    return Fitted(pairs=tuple(kept), skipped=frozenset(skipped), n_truncated=n_truncated)
