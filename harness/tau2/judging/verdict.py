"""Verdict, cause and review of one simulation, the same for one that just ended and for a recorded one.

Its content never raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.core.tau2.end_state import EndState
from harness.core.tau2.fault import Fault
from harness.core.tau2.simulation import Simulation
from harness.core.tau2.task import Task
from harness.core.tau2.upstream import OURS, Upstream
from harness.reward_models.tau2.faults import RecordedFailure, attribute
from harness.reward_models.tau2.review import Review
from harness.reward_models.tau2.reward import NOTHING, Verdict, judge, needs_end_state, unjudged
from harness.tasks.tau2.domain import Domain
from harness.tasks.tau2.end import UnfitEnd
from harness.tau2.judging.reviewer import recorded_review, reviewed


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """A verdict, the end state that it depends on (None where it depends on none, or there is none), and the cause of a failure: by the
    rules, and after a review.
    """

    verdict: Verdict
    end: EndState | None = None
    by_rules: Fault | None = None
    review: Review | None = None

    @property
    def fault(self) -> Fault | None:
        """The cause after the review, where there is one."""
        return reviewed(self.by_rules, self.review)

    def after(self, review: Review | None) -> Assessment:
        """With another review; unchanged for None."""
        return self if review is None else replace(self, review=review)


def assess(
    domain: Domain,
    task: Task,
    simulation: Simulation,
    *,
    solo: bool,
    nl_met: Sequence[bool] | None,
    judge_failure: str | None = None,
    upstream: Upstream = OURS,
) -> Assessment:
    """Replay, judge, and find the cause of a failure; the review is the one stored with the simulation.

    `nl_met`: a judge's verdict on each natural-language assertion; `judge_failure`: why there is none.
    """
    verdict, end = _verdict(domain, task, simulation, solo=solo, nl_met=nl_met, upstream=upstream)
    failure: RecordedFailure | None = None
    if judge_failure is not None and verdict.reward is None:
        verdict, failure = unjudged(f"judge: {judge_failure}"), RecordedFailure("judge", judge_failure)
    return Assessment(
        verdict=verdict,
        end=end,
        by_rules=attribute(task, simulation, verdict, changing=_changing(domain), failure=failure),
        review=recorded_review(simulation),
    )


def _changing(domain: Domain) -> frozenset[str]:
    """The names of the user's tools that change state."""
    return frozenset(name for name, tool in domain.user_tools.items() if tool.changes_state)


def _verdict(
    domain: Domain, task: Task, simulation: Simulation, *, solo: bool, nl_met: Sequence[bool] | None, upstream: Upstream
) -> tuple[Verdict, EndState | None]:
    """Replay and judge. An end state that cannot be evaluated because of the agent's own actions is worth 0, like any wrong one."""
    try:
        if not needs_end_state(task, simulation):
            return judge(task, simulation, None, nl_met=nl_met), None
        end = domain.end_state(task, simulation.messages, solo=solo)
        if upstream.replay and end.n_differs:
            return unjudged(f"{end.n_differs} replayed call(s) answer otherwise than recorded"), end
        return judge(task, simulation, end, nl_met=nl_met), end
    except UnfitEnd as error:
        if upstream.ends:
            return unjudged(str(error)), None
        return Verdict(reward=0.0, components=NOTHING, reason=str(error)), None
    except Exception as error:  # noqa: BLE001
        # Data of a recording or a task may make tools, assertions and comparisons raise anything: it fails this simulation alone.
        return unjudged(f"{type(error).__name__}: {error}"), None
