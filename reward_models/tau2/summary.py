"""One summary of simulations: reward, the same without the user's faults, components, pass^k, causes, tokens. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from harness.core.chat import Usage
from harness.core.tau2.fault import Cause
from harness.core.tau2.task import REWARD_TYPES, RewardType
from harness.reward_models.statistics import MeanEstimate, clustered_mean
from harness.reward_models.tau2.faults import count
from harness.reward_models.tau2.pass_hat import PassHat, Trials, pass_hat_estimate
from harness.reward_models.tau2.result import Conversation, Result
from harness.reward_models.tau2.reward import SUCCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """Over the `n` simulations that have a value; None when there are none. The standard error is clustered by task."""

    mean: float | None = None
    stderr: float | None = None
    n: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Of a set of simulations: `n_scored` of `n` have a reward, and only those enter `reward` and `pass_hat`.

    `rewards` are by task. `without_user_faults`: over those whose failure was not the simulated user's. `conversation`: the counts
    of a scored simulation's transcript, on average. `usage`: by who spent it, in failed simulations too.
    Standard errors are clustered by task: trials of one task are not independent.
    """

    n: int
    rewards: Mapping[str, Sequence[float]]
    reward: Mean
    without_user_faults: Mean
    components: Mapping[RewardType, Mean]
    pass_hat: Mapping[int, PassHat | None]
    faults: Mapping[Cause, int]
    conversation: Mapping[str, float | None]
    usage: Mapping[str, Usage]

    @property
    def n_scored(self) -> int:
        """Simulations with a reward."""
        return self.reward.n

    @property
    def n_tasks(self) -> int:
        """Tasks, with or without a reward."""
        return len(self.rewards)


COUNTS = [one.name for one in fields(Conversation)]


def summarize(
    results: Sequence[Result], *, task_ids: Sequence[str] | None = None, trials: int | None = None
) -> Summary:
    """Of `results`, in any order. `task_ids` and `trials` say what was planned: pass^k is over every planned task, for k up to
    the planned trials; without them over the tasks that are there, for k up to the most trials of one.
    """
    rewards: dict[str, list[float]] = {task: [] for task in task_ids or ()}
    scored = [one for one in results if one.finished]
    for one in results:
        rewards.setdefault(one.key.task_id, [])
    for one in scored:
        assert one.verdict.reward is not None
        rewards[one.key.task_id].append(one.verdict.reward)
    tried = [Trials(len(values), sum(value >= SUCCESS for value in values)) for values in rewards.values()]
    most = max((one.n for one in tried), default=0) if trials is None else trials
    return Summary(
        n=len(results),
        rewards=rewards,
        reward=_mean([(one, one.verdict.reward) for one in scored]),
        without_user_faults=_mean(
            [(one, one.verdict.reward) for one in scored if one.fault is None or one.fault.cause != "user"]
        ),
        components={name: _mean([(one, one.verdict.components[name]) for one in results]) for name in REWARD_TYPES},
        pass_hat={k: pass_hat_estimate(tried, k) for k in range(1, most + 1)},
        faults=count(one.fault for one in results),
        conversation={name: _count(scored, name) for name in COUNTS},
        usage=_usage(results),
    )


def _mean(values: Sequence[tuple[Result, float | None]]) -> Mean:
    known = [(one.key.task_id, value) for one, value in values if value is not None]
    if not known:
        return Mean()
    found: MeanEstimate = clustered_mean([value for _, value in known], [task for task, _ in known])
    return Mean(mean=found.mean, stderr=found.stderr, n=len(known))


def _count(scored: Sequence[Result], name: str) -> float | None:
    return math.fsum(getattr(one.conversation, name) for one in scored) / len(scored) if scored else None


def _usage(results: Sequence[Result]) -> dict[str, Usage]:
    total: dict[str, Usage] = {}
    for one in results:
        for who, usage in one.spent.items():
            total[who] = total[who] + usage if who in total else usage
    return total
