"""A seed per trial, shared by all tasks, as upstream draws them. Pure arithmetic."""

from __future__ import annotations

import random

DEFAULT_SEED = 300


def trial_seeds(seed: int, trials: int) -> list[int]:
    """The seeds of the first `trials` trials; more trials have the same ones first."""
    dice = random.Random(seed)
    return [dice.randint(0, 1_000_000) for _ in range(trials)]
