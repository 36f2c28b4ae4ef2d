"""Which warnings of a vector tell a reader something. Pure."""

from __future__ import annotations

from harness.core.vector import RewardVector

FIRST_OF_RUNNING = "measured on 1 checkpoint so far; two are needed"
"""Why a first step has no z where means and deviations are the trajectory's own: it always is so."""


def telling(vector: RewardVector) -> list[str]:
    """The vector's warnings, without those that come with the beginning of every running trajectory."""
    running = vector.reference.mode == "running"
    return [words for words in vector.warnings if not (running and words.endswith(FIRST_OF_RUNNING))]
