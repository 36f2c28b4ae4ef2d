"""Asks a model to review one simulation, again where its answer is no review, and says what a review changes.

Rules come first: a review replaces their default, never their evidence. A reviewer that failed has found nothing out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.core.chat import ChatModel, ChatRequest, ContextOverflow, EndpointError, Usage
from harness.core.tau2.fault import Fault
from harness.core.tau2.simulation import Simulation
from harness.core.tau2.task import Task
from harness.reward_models.tau2.review import Review, ReviewError, parse_review, parse_value
from harness.reward_models.tau2.review_prompt import review_messages
from harness.reward_models.tau2.reward import SUCCESS, Verdict

ATTEMPTS = 3
LONGEST = 20_000
"""Characters of an unusable answer that the reviewer is shown again."""
Ask = Callable[[Sequence[dict[str, str]]], Awaitable[str]]
"""Messages (role and content) in, the model's text out. What it raises is the caller's."""


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


async def review(
    ask: Ask, task: Task, simulation: Simulation, *, policy: str, attempts: int = ATTEMPTS
) -> Review | ReviewError:
    """The review, or what was wrong with the last of `attempts` answers: a failed review is a value, not "no errors"."""
    asked = review_messages(task, simulation, policy=policy)
    problem = ReviewError("nobody was asked")
    for _ in range(attempts):
        answer = await ask(asked)
        try:
            return parse_review(answer, n_turns=len(simulation.messages))
        except ReviewError as error:
            problem = error
            again = f"That was no review: {error}. Answer with the one JSON object."
            shown = answer[:LONGEST] or "(nothing)"
            asked = [*asked[:2], {"role": "assistant", "content": shown}, {"role": "user", "content": again}]
    return problem


async def review_by(chat: ChatModel, task: Task, simulation: Simulation, *, policy: str) -> Reviewed:
    """Ask a chat model. It raises nothing that an endpoint or a transcript can cause: no review costs no simulation."""
    usage = Usage()

    async def ask(messages: Sequence[dict[str, str]]) -> str:
        nonlocal usage
        answer = await chat.answer(ChatRequest(messages=tuple(messages), tag=task.id))
        usage += answer.usage
        return answer.content or ""

    try:
        found = await review(ask, task, simulation, policy=policy)
    except EndpointError as error:
        return Reviewed(by=chat.name, failure=f"no answer ({error})", usage=usage)
    except ContextOverflow as error:
        return Reviewed(by=chat.name, failure=f"the transcript is too long for it ({error})", usage=usage)
    if isinstance(found, ReviewError):
        return Reviewed(by=chat.name, failure=f"{found} ({ATTEMPTS} attempts)", usage=usage)
    return Reviewed(by=chat.name, review=found, usage=usage)


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


def reviewed(by_rules: Fault | None, review: Review | ReviewError | None) -> Fault | None:
    """The cause after a review: what it found decisive replaces the rules' default, and only that.

    A rule that found the user, the judge or the infrastructure at fault points at evidence, and stands; so does success.
    """
    if by_rules is None or by_rules.cause != "agent" or not isinstance(review, Review):
        return by_rules
    return review.fault() or by_rules
