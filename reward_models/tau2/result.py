"""What came of one simulation, without its transcript: the one record that runs, recordings, measurements and tables share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from harness.core.chat import Usage
from harness.core.tau2.fault import UNSCORED, Fault
from harness.reward_models.tau2.reward import Verdict, unjudged


class Key(NamedTuple):
    """Identifies a simulation: a run has each key once. `trial` counts from 0; `seed` is None where it is not known."""

    task_id: str
    trial: int
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A transcript in counts. The mean of each over scored simulations stands in a measurement's detail: one more is a field here.

    `turns`: messages of all sides. `tool_errors`: calls, the agent's and the user's, that a tool answered with an error.
    """

    turns: int = 0
    tool_errors: int = 0

    @classmethod
    def of(cls, messages: Iterable[Mapping[str, Any]]) -> Conversation:
        """Of messages with upstream's keys. Raises KeyError for one without a role."""
        told = list(messages)
        return cls(turns=len(told), tool_errors=sum(one["role"] == "tool" and bool(one.get("error")) for one in told))


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """`verdict.reward` None: it is not finished, and `verdict.reason` says why.

    `fault` is the cause of a failure, after a review where there was one. `agent`, `user`, `judge` and `reviewer`: the tokens
    and cost of each. `excluded`: tau2-bench would have left it out for a fault of agent or user (`--upstream-exclusions`).
    """

    key: Key
    verdict: Verdict
    termination: str = ""
    reason: str | None = None
    agent: Usage = field(default_factory=Usage)
    user: Usage = field(default_factory=Usage)
    judge: Usage = field(default_factory=Usage)
    reviewer: Usage = field(default_factory=Usage)
    fault: Fault | None = None
    review_failure: str | None = None
    seconds: float = 0.0
    conversation: Conversation = Conversation()
    excluded: bool = False

    @property
    def finished(self) -> bool:
        """Whether it has a reward, so that it is not judged again."""
        return self.verdict.reward is not None

    @property
    def open(self) -> bool:
        """Whether infrastructure or judge kept it from a reward, so that another run may complete it."""
        return self.fault is not None and self.fault.cause in UNSCORED

    @property
    def counted(self) -> Verdict:
        """The verdict, without a reward where infrastructure or judge failed: those say nothing about the agent."""
        return unjudged(self.fault.words) if self.fault is not None and self.open else self.verdict

    @property
    def spent(self) -> Mapping[str, Usage]:
        """Usage by who spent it."""
        return {"agent": self.agent, "user": self.user, "judge": self.judge, "reviewer": self.reviewer}
