"""From a run's outcomes to what a measurement is made of. Pure: whose fault a failure is stands in its outcome."""

from __future__ import annotations

from collections.abc import Iterable

from harness.core.chat import Usage
from harness.reward_models.tau2.measure import Finished
from harness.tau2.line import Outcome


def finished(outcomes: Iterable[Outcome]) -> list[Finished]:
    """One per outcome, in order."""
    return [_finished(outcome) for outcome in outcomes]


def _finished(outcome: Outcome) -> Finished:
    spent = {"agent": outcome.agent, "user": outcome.user, "judge": outcome.judge, "reviewer": outcome.reviewer}
    return Finished(
        task_id=outcome.key.task_id,
        trial=outcome.key.trial,
        verdict=outcome.verdict,
        fault=outcome.fault,
        excluded=outcome.excluded,
        turns=outcome.n_messages,
        tokens={name: _tokens(usage) for name, usage in spent.items()},
        cost={name: usage.cost for name, usage in spent.items() if usage.cost is not None},
    )


def _tokens(usage: Usage) -> int:
    return usage.prompt_tokens + usage.completion_tokens
