"""Judges a finished conversation: assertions (by a model), replay and verdict, the cause of a failure, the review.

Owns the order of these. Without the judge's verdict there is no reward; without a review only the review is missing.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.core.chat import ChatModel, Usage
from harness.core.tau2.simulation import STOPPED, Simulation
from harness.core.tau2.task import Task
from harness.reward_models.tau2.result import Conversation, Key, Result
from harness.reward_models.tau2.reward import Verdict
from harness.tau2.judging.nl_judge import Judged, judge_assertions
from harness.tau2.judging.reviewer import Reviewed, review_by, wants_review
from harness.tau2.judging.verdict import assess
from harness.tau2.line import Done, message_json, simulation_of
from harness.tau2.plan import Plan
from harness.tau2.simulate.loop import Played


class Judging:
    """Judges the simulations of one run. `asked` is called after every request to a model."""

    def __init__(
        self, plan: Plan, *, judge: ChatModel | None, reviewer: ChatModel | None, asked: Callable[[], None]
    ) -> None:
        self._plan = plan
        self._judge = judge
        self._reviewer = reviewer
        self._asked = asked

    async def done(self, key: Key, task: Task, played: Played, started: str) -> Done:
        """Ask the judge if the task has assertions, replay, and ask the reviewer if the simulation failed."""
        judged = await self._ask_judge(task, played)
        failed = judged.failure if judged else None
        simulation = simulation_of(key, played)
        found = assess(
            self._plan.domain,
            task,
            simulation,
            solo=self._plan.solo,
            nl_met=judged.met if judged else None,
            judge_failure=failed,
            upstream=self._plan.upstream,
        )
        review = await self._reviewed(task, simulation, found.verdict)
        result = Result(
            key=key,
            termination=played.termination,
            reason=played.reason if failed is None else f"judge: {failed}",
            verdict=found.verdict,
            agent=played.spent.get("assistant", Usage()),
            user=played.spent.get("user", Usage()),
            judge=judged.usage if judged else Usage(),
            reviewer=review.usage if review else Usage(),
            review_failure=review.failure if review else None,
            fault=found.after(review.review if review else None).fault,
            seconds=played.seconds,
            conversation=Conversation.of(message_json(message, None) for message in played.messages),
        )
        return Done(
            key=key, result=result, played=played, judged=judged, end=found.end, reviewed=review, started=started
        )

    async def _reviewed(self, task: Task, simulation: Simulation, verdict: Verdict) -> Reviewed | None:
        if self._reviewer is None or not wants_review(verdict):
            return None
        try:
            return await review_by(self._reviewer, task, simulation, policy=self._plan.prompts.policy)
        finally:
            self._asked()

    async def _ask_judge(self, task: Task, played: Played) -> Judged | None:
        assertions = (task.evaluation_criteria and task.evaluation_criteria.nl_assertions) or ()
        if self._judge is None or not assertions or played.termination not in STOPPED:
            return None
        upstream = self._plan.upstream
        if (
            upstream.judge_gates
            and task.evaluation_criteria
            and "NL_ASSERTION" not in task.evaluation_criteria.reward_basis
        ):
            return None
        try:
            return await judge_assertions(self._judge, assertions, played.messages, tag=task.id, upstream=upstream)
        finally:
            self._asked()
