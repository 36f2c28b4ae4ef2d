"""What to do with a component in a proxy's reward: a verdict, and a weight. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from harness.reward_models.agreement import Agreement
from harness.reward_models.signal import Signal

Verdict = Literal["steers", "moves", "noise"]
FEWEST = 5
"""Mixtures for a verdict: no rank correlation of four differs from 0 at 5%."""


def verdict(signal: Signal, agreement: Agreement | None) -> Verdict | None:
    """Noise where its spread over mixtures is no more than its noise (95%); steers where also its rank correlation with the
    target is above 0 (95%); else it moves. None where that cannot be said: too few mixtures, or a noise that is not known.

    Without a target it is noise or moves.
    """
    if signal.n_mixtures < FEWEST or (agreement is not None and agreement.n_mixtures < FEWEST):
        return None
    if signal.spread == 0 or signal.moves is False:
        return "noise"
    if agreement is not None and agreement.rank is not None and agreement.rank.interval.low > 0:
        return "steers"
    return "moves" if signal.moves else None


def words_of(judged: Verdict | None, *, target: bool) -> str:
    """A verdict for people. `target`: whether there was one to steer by."""
    moves = "moves, but not with the target" if target else "moves with the mixture"
    words = {"steers": "steers: puts mixtures in the target's order", "moves": moves, "noise": "noise at this scale"}
    return "open: too few mixtures, or noise that is not known" if judged is None else words[judged]


def weights(
    found: Mapping[str, tuple[Verdict | None, Signal, Agreement | None]],
) -> dict[str, float] | None:
    """lambda of Eq. 6 by component, summing to 1; None where none steers.

    A component that steers gets the slope of the target on its score as seen, r / spread, which allows for noise and
    different units; the others get 0. Each slope is of one component alone: two correlated components both count.
    """
    slopes: dict[str, float] = {}
    for name, (judged, signal, agreement) in found.items():
        slopes[name] = 0.0
        if judged == "steers" and agreement is not None and agreement.rank is not None and signal.spread:
            slopes[name] = max(0.0, 2 * math.sin(math.pi * agreement.rank.seen / 6)) / signal.spread
    total = math.fsum(slopes.values())
    return {name: slope / total for name, slope in slopes.items()} if total > 0 else None
