"""What a model answers to a benchmark's request, and what stands in for an answer that could not be had. Records only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An answer that could not be had, and why. It is never an empty answer."""

    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """The log-probability of a continuation in nats, whether it is the likeliest one, and its tokens."""

    nats: float
    greedy: bool
    n_tokens: int


Answer = Likelihood | float | str | Failure
"""Likelihood: of a continuation. float: a whole text's log-probability in nats. str: generated text. Failure: in place of any."""
