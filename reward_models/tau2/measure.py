"""From the simulations of one checkpoint and domain to a measurement of the reward vector. Pure arithmetic."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import JsonValue

from harness.core.measurement import Measurement, failed
from harness.core.tau2.fault import UNSCORED, Cause, Fault
from harness.reward_models.repeat import interval_repeat, stderr_repeat
from harness.reward_models.statistics import clustered_mean
from harness.reward_models.tau2.faults import count
from harness.reward_models.tau2.pass_hat import Trials, pass_hat_estimate
from harness.reward_models.tau2.reward import NEEDS_JUDGE, SUCCESS, Verdict, unjudged
from harness.reward_models.tau2.summary import Judged, Summary, summarize

METRIC = "reward"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """One simulation as far as a measurement needs it.

    `tokens` and `cost` (US dollars) are by who spent them: agent, user, judge; a key that is missing is unknown.
    `turns` counts messages. `trial` counts from 0. `excluded`: left out as upstream does, without a reward.
    """

    task_id: str
    trial: int
    verdict: Verdict
    fault: Fault | None = None
    excluded: bool = False
    turns: int = 0
    tokens: Mapping[str, int] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)

    @property
    def counted(self) -> Verdict:
        """The verdict, without a reward where infrastructure or judge failed: those say nothing about the agent."""
        if self.fault is not None and self.fault.cause in UNSCORED:
            return unjudged(self.fault.words)
        return self.verdict


def measure_reward(
    finished: Sequence[Finished], *, task_ids: Sequence[str], trials: int, source: str, task_revision: str
) -> Measurement:
    """Mean reward over the scored simulations, in [0, 1], with its standard error clustered by task.

    `task_ids` and `trials` say what was planned: `n_items` is their product, and the measurement is `partial` until
    every planned simulation has a reward. Raises ValueError for a simulation that was not planned, or is there twice.
    """
    _check(finished, task_ids, trials)
    n_items = len(task_ids) * trials
    counted = [replace(item, verdict=item.counted) for item in finished]
    judged = [Judged(item.task_id, item.verdict) for item in counted]
    summary = summarize(judged)
    reason = _reason(finished, n_items)
    rewards: dict[str, list[float]] = {task: [] for task in task_ids}
    for item in counted:
        if item.verdict.reward is not None:
            rewards[item.task_id].append(item.verdict.reward)
    again = interval_repeat(list(rewards.values()))
    detail = {
        **_detail(counted, summary),
        **_pass_hat(rewards, trials),
        "stderr_repeat": stderr_repeat(list(rewards.values())),
        "interval_repeat": None if again is None else list(again),
    }
    detail.update(source=source, task_revision=task_revision, trials=trials, n_tasks=len(task_ids))
    if summary.reward is None:
        nothing = failed(METRIC, reason or "no simulation was run", n_items=n_items)
        return nothing.model_copy(update={"detail": detail})
    return Measurement(
        metric=METRIC,
        raw=summary.reward.mean,
        stderr=summary.reward.stderr,
        n_items=n_items,
        n_scored=summary.n_scored,
        status="ok" if summary.n_scored == n_items else "partial",
        reason=reason,
        detail=detail,
    )


def _check(finished: Sequence[Finished], task_ids: Sequence[str], trials: int) -> None:
    planned = {(task, trial) for task in task_ids for trial in range(trials)}
    if len(planned) != len(task_ids) * trials:
        raise ValueError("a task id stands twice among the planned ones")
    for item in finished:
        if (item.task_id, item.trial) not in planned:
            raise ValueError(f"task {item.task_id!r}, trial {item.trial}: not planned, or there twice")
        planned.remove((item.task_id, item.trial))


def _pass_hat(rewards: Mapping[str, Sequence[float]], trials: int) -> dict[str, JsonValue]:
    """pass^k with its standard error over tasks; None for a k of which any planned task has fewer scored trials."""
    tried = [Trials(len(values), sum(value >= SUCCESS for value in values)) for values in rewards.values()]
    made = {str(k): pass_hat_estimate(tried, k) for k in range(1, trials + 1)}
    return {
        "pass_hat": {k: one and one.mean for k, one in made.items()},
        "pass_hat_stderr": {k: one and one.stderr for k, one in made.items()},
    }


def _detail(counted: Sequence[Finished], summary: Summary) -> dict[str, JsonValue]:
    scored = [item for item in counted if item.verdict.reward is not None]
    others = [item for item in scored if item.fault is None or item.fault.cause != "user"]
    rewards = [item.verdict.reward for item in others if item.verdict.reward is not None]
    without = clustered_mean(rewards, [item.task_id for item in others]) if rewards else None
    breakdown: dict[str, JsonValue] = {
        name: {"mean": one.mean, "stderr": one.stderr, "n_applicable": one.n_applicable}
        for name, one in summary.components.items()
    }
    return {
        "breakdown": breakdown,
        "faults": {str(cause): n for cause, n in count(item.fault for item in counted).items()},
        "reward_without_user_faults": None if without is None else without.mean,
        "stderr_without_user_faults": None if without is None else without.stderr,
        "n_without_user_faults": len(others),
        "turns": math.fsum(item.turns for item in scored) / len(scored) if scored else None,
        "tokens": {**_total([item.tokens for item in counted])},
        "cost": {**_total([item.cost for item in counted])},
    }


def _total(spent: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Sums by who spent; failed simulations spent as well."""
    who = dict.fromkeys(name for one in spent for name in one)
    return {name: sum(one.get(name, 0) for one in spent) for name in who}


def _words(finished: Sequence[Finished], cause: Cause) -> str:
    """What was said of most failures of a cause, cut where it is long."""
    said = Counter(item.fault.words for item in finished if item.fault is not None and item.fault.cause == cause)
    return textwrap.shorten(said.most_common(1)[0][0], 200, placeholder=" ...")


def _reason(finished: Sequence[Finished], n_items: int) -> str | None:
    """Why not every planned simulation is scored; None where every one is."""
    by_cause = count(item.fault for item in finished)
    parts = [
        f"{by_cause[cause]} failed by {cause} ({_words(finished, cause)})" for cause in UNSCORED if by_cause[cause]
    ]
    waiting = sum(item.counted.reason == NEEDS_JUDGE for item in finished)
    if waiting:
        parts.append(f"{waiting} without a judge for NL_ASSERTION")
    left_out = sum(item.excluded for item in finished)
    if left_out:
        parts.append(f"{left_out} left out as upstream would")
    known = waiting + left_out + sum(by_cause[cause] for cause in UNSCORED)
    other = sum(item.counted.reward is None for item in finished) - known
    if other:
        parts.append(f"{other} could not be judged")
    if len(finished) < n_items:
        parts.append(f"{n_items - len(finished)} not run")
    return f"of {n_items} simulations {', '.join(parts)}" if parts else None
