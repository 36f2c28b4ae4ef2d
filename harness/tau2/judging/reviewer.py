"""Asks a model to review one simulation, again if its answer is no review, and decides what a review changes.

Rules have precedence: a review replaces only their default cause. A reviewer that failed changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.core.chat import ChatModel, Usage
from harness.core.tau2.fault import Fault
from harness.core.tau2.simulation import Simulation
from harness.core.tau2.task import Task
from harness.reward_models.tau2.review import Review, ReviewError, parse_review, parse_value
from harness.reward_models.tau2.review_prompt import review_messages
from harness.reward_models.tau2.reward import SUCCESS, Verdict
from harness.tau2.judging.ask_until import ask_until


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """A reviewer's answer about one simulation: a review, or a failure. `by`: the model's name. `usage` is of all attempts."""

    by: str
    review: Review | None = None
    failure: str | None = None
    usage: Usage = field(default_factory=Usage)

    def as_json(self) -> dict[str, Any]:
        """Keys of a simulation's line: `review` in upstream's format, or `review_failure`."""
        if self.review is None:
            return {"review_failure": {"model": self.by, "reason": self.failure}}
        return {"review": {**self.review.as_json(), "cost": self.usage.cost, "model": self.by}}


async def review_by(chat: ChatModel, task: Task, simulation: Simulation, *, policy: str) -> Reviewed:
    """Ask a chat model. Errors of an endpoint or a transcript become the result's `failure` and are not raised."""
    heard = await ask_until(
        chat,
        review_messages(task, simulation, policy=policy),
        lambda text: parse_review(text, n_turns=len(simulation.messages)),
        tag=task.id,
    )
    return Reviewed(by=chat.name, review=heard.value, failure=heard.failure, usage=heard.usage)


def wants_review(verdict: Verdict) -> bool:
    """Whether there is something to review: a reward below that of a success."""
    return verdict.reward is not None and verdict.reward < SUCCESS


def recorded_review(simulation: Simulation) -> Review | None:
    """The review stored in a simulation's line; None where there is none, or it cannot be read."""
    if not isinstance(simulation.review, Mapping):
        return None
    try:
        return parse_value(simulation.review, n_turns=len(simulation.messages))
    except ReviewError:
        return None


def reviewed(by_rules: Fault | None, review: Review | None) -> Fault | None:
    """The cause after a review: the review's decisive error replaces the rules' default (agent), and only that.

    A cause user, judge or infrastructure was found by a rule with evidence and remains; so does a success (None).
    """
    if by_rules is None or by_rules.cause != "agent" or review is None:
        return by_rules
    return review.fault() or by_rules
