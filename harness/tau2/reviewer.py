"""Asks a model to review one simulation, again where its answer is no review. Knows no endpoint: it is given a callable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from harness.core.tau2.fault import Fault
from harness.core.tau2.simulation import Simulation
from harness.core.tau2.task import Task
from harness.reward_models.tau2.review import Review, ReviewError, parse_review
from harness.reward_models.tau2.review_prompt import review_messages

ATTEMPTS = 3
Ask = Callable[[Sequence[dict[str, str]]], Awaitable[str]]
"""Messages (role and content) in, the model's text out. What it raises is the caller's."""


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
            asked = [*asked[:2], {"role": "assistant", "content": answer}, {"role": "user", "content": again}]
    return problem


def reviewed(by_rules: Fault | None, review: Review | ReviewError) -> Fault | None:
    """The cause after a review: what it found decisive replaces the rules' default, and only that.

    A rule that found the user, the judge or the infrastructure at fault points at evidence, and stands; so does success.
    """
    if by_rules is None or by_rules.cause != "agent" or isinstance(review, ReviewError):
        return by_rules
    return review.fault() or by_rules
