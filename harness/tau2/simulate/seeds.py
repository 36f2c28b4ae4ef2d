"""A seed per trial, shared by all tasks, as upstream draws them. Pure arithmetic."""

from __future__ import annotations

import random

DEFAULT_SEED = 300


def trial_seeds(seed: int, trials: int) -> list[int]:
    """The seeds of the first `trials` trials; with more trials the first seeds are the same."""
    rng = random.Random(seed)
    return [rng.randint(0, 1_000_000) for _ in range(trials)]
