"""Controls for an agent's advantage: the same learning from permuted gains, or without feedback. Pure functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from harness.mixing.agent import Agent, Card
from harness.mixing.domains import Floats
from harness.mixing.episodes import Episodes


def shuffled(data: Episodes, *, seed: int = 0) -> Episodes:
    """Gains permuted over all transitions, with their errors: an agent that still does well has not learned from the gains."""
    order = np.random.default_rng(seed).permutation(int(data.mask.sum()))
    changed = {}
    for key in ("gains", "gains_standardized", "gain_stderr", "gain_standardized_stderr", "error_known"):
        values = getattr(data, key).copy()
        values[data.mask] = values[data.mask][order]
        changed[key] = values
    return replace(data, **changed)


def blind(data: Episodes) -> Episodes:
    """States without feedback: z is 0 everywhere. Gains stay, so that only a best mixture for each step can be learned."""
    states = data.states.copy()
    states[..., len(data.domains) :] = 0.0
    return replace(data, states=states)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blind:
    """An agent that sees no feedback, for one that was fitted on `blind` data."""

    agent: Agent

    @property
    def card(self) -> Card:
        """The agent's."""
        return self.agent.card

    def next(self, matrix: Floats) -> Floats:
        """From the mixtures alone."""
        seen = np.array(matrix, dtype=np.float64)
        seen[:, len(self.card.domains) :] = 0.0
        return self.agent.next(seen)
