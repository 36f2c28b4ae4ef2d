"""Means over simulations: reward, each component over the tasks it applies to, pass^k. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.core.tau2.task import REWARD_TYPES, RewardType
from harness.reward_models.statistics import Estimate, clustered_mean
from harness.reward_models.tau2.pass_hat import Trials, mean_pass_hat
from harness.reward_models.tau2.reward import SUCCESS, Verdict


class Judged(NamedTuple):
    """A verdict and the task it is on."""

    task_id: str
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentMean:
    """`n_applicable` simulations had something to judge; the mean is over those, None when there are none."""

    mean: float | None
    stderr: float | None
    n_applicable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Of a set of simulations: `n_scored` of `n` have a reward, and only those enter `reward` and `pass_hat`.

    Standard errors are clustered by task: trials of one task are not independent.
    """

    n: int
    n_scored: int
    n_tasks: int
    reward: Estimate | None
    components: Mapping[RewardType, ComponentMean]
    pass_hat: Mapping[int, float | None]


def _component(judged: Sequence[Judged], name: RewardType) -> ComponentMean:
    known = [(task, value) for task, verdict in judged if (value := verdict.components[name]) is not None]
    if not known:
        return ComponentMean(mean=None, stderr=None, n_applicable=0)
    estimate = clustered_mean([value for _, value in known], [task for task, _ in known])
    return ComponentMean(mean=estimate.mean, stderr=estimate.stderr, n_applicable=len(known))


def summarize(judged: Sequence[Judged]) -> Summary:
    """Means over `judged`, in any order."""
    scored = [(task, verdict.reward) for task, verdict in judged if verdict.reward is not None]
    rewards: dict[str, list[float]] = {task: [] for task, _ in judged}
    for task, reward in scored:
        rewards[task].append(reward)
    trials = [Trials(len(values), sum(value >= SUCCESS for value in values)) for values in rewards.values()]
    return Summary(
        n=len(judged),
        n_scored=len(scored),
        n_tasks=len(rewards),
        reward=clustered_mean([value for _, value in scored], [task for task, _ in scored]) if scored else None,
        components={name: _component(judged, name) for name in REWARD_TYPES},
        pass_hat={k: mean_pass_hat(trials, k) for k in range(1, max((t.n for t in trials), default=0) + 1)},
    )
