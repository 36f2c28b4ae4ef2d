"""A finished simulation as it was recorded: who said and called what, how it ended, what it was given. Records only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.core.tau2.message import Message
from harness.core.tau2.task import RewardType

Termination = Literal[
    "user_stop",
    "agent_stop",
    "max_steps",
    "too_many_errors",
    "timeout",
    "agent_error",
    "user_error",
    "infrastructure_error",
    "unexpected_error",
]
STOP = "###STOP###"
USER_STOPS = (STOP, "###TRANSFER###", "###OUT-OF-SCOPE###")
"""Words by which a user ends a simulation; of an agent alone (solo) the first."""
STOPPED: tuple[Termination, ...] = ("agent_stop", "user_stop")
"""The ends after which a simulation is judged. Any other end is worth 0."""

Checks = Mapping[RewardType, list[Any]]
"""Component to what it was checked by, in order: calls, assertions, strings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The verdict stored in a file: the reward and, where the file has them, the components and what was checked."""

    reward: float | None = None
    components: Mapping[RewardType, float] = field(default_factory=dict)
    checks: Checks = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """One simulation of one task. `trial` counts from 0. `review` is a reviewer's, as stored in the file."""

    id: str
    task_id: str
    termination_reason: str
    messages: tuple[Message, ...]
    trial: int | None = None
    recorded: Recorded = Recorded()
    review: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A recorded simulation that cannot be judged, and why. The others of its file still are."""

    id: str
    task_id: str
    reason: str
    recorded: Recorded = Recorded()
