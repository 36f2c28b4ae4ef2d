"""What the environment was like when a simulation ended, as far as a verdict needs to know. Records only."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.tau2.message import ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A replayed call whose answer differs from the recording: the recorded answer `then` and the replayed answer `now`."""

    call: ToolCall
    then: str
    now: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndState:
    """The facts that the components DB and ENV_ASSERTION are functions of.

    `database_matches`: both databases equal those after the reference actions; None where that was not asked.
    `assertions_met`: one entry per assertion of the task, in order; None where it has none.
    `differences`: replayed calls whose answers differ from the recorded ones, so the recording was made with other tools.
    """

    database_matches: bool | None
    assertions_met: tuple[bool, ...] | None
    differences: tuple[Difference, ...] = ()

    @property
    def n_differs(self) -> int:
        """How many calls answered otherwise."""
        return len(self.differences)
