"""Asks a model to review one simulation, again where its answer is no review, and says what a review changes.

Rules come first: a review replaces their default, never their evidence. A reviewer that failed has found nothing out.
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
    """What came of asking a reviewer about one simulation: a review, or why there is none. `usage` is of all attempts."""

    by: str
    review: Review | None = None
    failure: str | None = None
    usage: Usage = field(default_factory=Usage)

    def as_json(self) -> dict[str, Any]:
        """The keys of a simulation's line: `review` as upstream has it, or `review_failure`."""
        if self.review is None:
            return {"review_failure": {"model": self.by, "reason": self.failure}}
        return {"review": {**self.review.as_json(), "cost": self.usage.cost, "model": self.by}}


async def review_by(chat: ChatModel, task: Task, simulation: Simulation, *, policy: str) -> Reviewed:
    """Ask a chat model. It raises nothing that an endpoint or a transcript can cause: no review costs no simulation."""
    heard = await ask_until(
        chat,
        review_messages(task, simulation, policy=policy),
        lambda text: parse_review(text, n_turns=len(simulation.messages)),
        tag=task.id,
    )
    return Reviewed(by=chat.name, review=heard.value, failure=heard.failure, usage=heard.usage)


def wants_review(verdict: Verdict) -> bool:
    """Whether there is something for a reviewer to find: a reward, and it is that of a failure."""
    return verdict.reward is not None and verdict.reward < SUCCESS


def recorded_review(simulation: Simulation) -> Review | None:
    """The review that stands in a simulation's line; None for none and for one that cannot be read."""
    if not isinstance(simulation.review, Mapping):
        return None
    try:
        return parse_value(simulation.review, n_turns=len(simulation.messages))
    except ReviewError:
        return None


def reviewed(by_rules: Fault | None, review: Review | None) -> Fault | None:
    """The cause after a review: what it found decisive replaces the rules' default, and only that.

    A rule that found the user, the judge or the infrastructure at fault points at evidence, and stands; so does success.
    """
    if by_rules is None or by_rules.cause != "agent" or review is None:
        return by_rules
    return review.fault() or by_rules
