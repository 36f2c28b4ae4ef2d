"""Whose fault a failed simulation is, and by which rule. Records only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Cause = Literal["agent", "user", "judge", "infrastructure"]
CAUSES: tuple[Cause, ...] = ("agent", "user", "judge", "infrastructure")
UNSCORED: tuple[Cause, ...] = ("judge", "infrastructure")
"""Causes that say nothing about the agent: such a simulation is counted and never averaged in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The cause of one failed simulation. `user` is the simulated user.

    `rule` is the rule's name, `words` the message; `turn` is the position of the transcript's message that shows it, from
    0, and None where no single message shows it.
    """

    cause: Cause
    rule: str
    words: str
    turn: int | None = None

    def as_json(self) -> dict[str, Any]:
        """A JSON object with the same keys."""
        return {"cause": self.cause, "rule": self.rule, "words": self.words, "turn": self.turn}
