"""A vector's warnings without the one that every running trajectory begins with. Pure."""

from __future__ import annotations

from harness.core.vector import RewardVector

FIRST_OF_RUNNING = "measured on 1 checkpoint so far; two are needed"
"""Why the first step of a trajectory has no z where means and deviations are the trajectory's own."""


def telling(vector: RewardVector) -> list[str]:
    """The vector's warnings, without FIRST_OF_RUNNING where its statistics are running ones."""
    running = vector.reference.mode == "running"
    return [words for words in vector.warnings if not (running and words.endswith(FIRST_OF_RUNNING))]
