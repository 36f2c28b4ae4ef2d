"""What the environment was like when a simulation ended, as far as a verdict needs to know. Records only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EndState:
    """The facts that the components DB and ENV_ASSERTION are functions of.

    `database_matches`: both databases equal those after the reference actions; null where that was not asked.
    `assertions_met`: one entry per assertion of the task, in order; null where it has none.
    `n_differs`: replayed calls that answered otherwise than recorded, so other tools than those of the recording.
    """

    database_matches: bool | None
    assertions_met: tuple[bool, ...] | None
    n_differs: int = 0
