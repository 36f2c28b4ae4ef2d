"""The verdict on one simulation, the same for one that just ended and for a recorded one. Never raises for what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.core.tau2.end_state import EndState
from harness.core.tau2.simulation import Simulation
from harness.core.tau2.task import Task
from harness.core.tau2.upstream import OURS, Upstream
from harness.reward_models.tau2.reward import NOTHING, Verdict, judge, needs_end_state, unjudged
from harness.tasks.tau2.domain import Domain
from harness.tasks.tau2.end import UnfitEnd


class Judgement(NamedTuple):
    """A verdict, and the end state that it is a function of; None where none was looked at or none could be."""

    verdict: Verdict
    end: EndState | None = None


def verdict_of(
    domain: Domain,
    task: Task,
    simulation: Simulation,
    *,
    solo: bool,
    nl_met: Sequence[bool] | None,
    upstream: Upstream = OURS,
) -> Judgement:
    """Replay and judge. An end that the agent itself made unfit to be looked at is worth 0, as any wrong end is."""
    try:
        if not needs_end_state(task, simulation):
            return Judgement(judge(task, simulation, None, nl_met=nl_met))
        end = domain.end_state(task, simulation.messages, solo=solo)
        if upstream.replay and end.n_differs:
            return Judgement(unjudged(f"{end.n_differs} replayed call(s) answer otherwise than recorded"), end)
        return Judgement(judge(task, simulation, end, nl_met=nl_met), end)
    except UnfitEnd as error:
        if upstream.ends:
            return Judgement(unjudged(str(error)))
        return Judgement(Verdict(reward=0.0, components=NOTHING, reason=str(error)))
    except Exception as error:  # noqa: BLE001
        # Whatever a recording or a task's data make tools, assertions and comparisons raise is this simulation's.
        return Judgement(unjudged(f"{type(error).__name__}: {error}"))
