"""What the environment was like when a simulation ended, as far as a verdict needs to know. Records only."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.tau2.message import ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A call that is answered otherwise now than in the recording: the answer `then` and the answer `now`."""

    call: ToolCall
    then: str
    now: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndState:
    """The facts that the components DB and ENV_ASSERTION are functions of.

    `database_matches`: both databases equal those after the reference actions; None where that was not asked.
    `assertions_met`: one entry per assertion of the task, in order; None where it has none.
    `differences`: replayed calls that answered otherwise than recorded, so other tools than those of the recording.
    """

    database_matches: bool | None
    assertions_met: tuple[bool, ...] | None
    differences: tuple[Difference, ...] = ()

    @property
    def n_differs(self) -> int:
        """How many calls answered otherwise."""
        return len(self.differences)
