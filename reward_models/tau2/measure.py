"""From the simulations of one checkpoint and domain to a measurement of the reward vector. Pure arithmetic."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from pydantic import JsonValue

from harness.core.measurement import Measurement, failed
from harness.core.tau2.fault import UNSCORED, Cause
from harness.reward_models.repeat import interval_repeat, stderr_repeat
from harness.reward_models.tau2.faults import count
from harness.reward_models.tau2.result import Result
from harness.reward_models.tau2.reward import NEEDS_JUDGE
from harness.reward_models.tau2.summary import Summary, summarize

METRIC = "reward"


def measure_reward(
    results: Sequence[Result], *, task_ids: Sequence[str], trials: int, source: str, task_revision: str
) -> Measurement:
    """Mean reward over the scored simulations, in [0, 1], with its standard error clustered by task.

    `task_ids` and `trials` say what was planned: `n_items` is their product, and the measurement is `partial` until
    every planned simulation has a reward. Raises ValueError for a simulation that was not planned, or is there twice.
    """
    _check(results, task_ids, trials)
    n_items = len(task_ids) * trials
    summary = summarize([replace(one, verdict=one.counted) for one in results], task_ids=task_ids, trials=trials)
    reason = _reason(results, n_items)
    rewards = list(summary.rewards.values())
    again = interval_repeat(rewards)
    detail: dict[str, JsonValue] = {
        **_detail(summary),
        "stderr_repeat": stderr_repeat(rewards),
        "interval_repeat": None if again is None else list(again),
    }
    detail.update(source=source, task_revision=task_revision, trials=trials, n_tasks=len(task_ids))
    if summary.reward.mean is None:
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


def _check(results: Sequence[Result], task_ids: Sequence[str], trials: int) -> None:
    planned = {(task, trial) for task in task_ids for trial in range(trials)}
    if len(planned) != len(task_ids) * trials:
        raise ValueError("a task id stands twice among the planned ones")
    for one in results:
        place = one.key.task_id, one.key.trial
        if place not in planned:
            raise ValueError(f"task {place[0]!r}, trial {place[1]}: not planned, or there twice")
        planned.remove(place)


def _detail(summary: Summary) -> dict[str, JsonValue]:
    without = summary.without_user_faults
    breakdown: dict[str, JsonValue] = {
        name: {"mean": one.mean, "stderr": one.stderr, "n_applicable": one.n}
        for name, one in summary.components.items()
    }
    return {
        "breakdown": breakdown,
        "faults": {str(cause): n for cause, n in summary.faults.items()},
        "reward_without_user_faults": without.mean,
        "stderr_without_user_faults": without.stderr,
        "n_without_user_faults": without.n,
        **summary.conversation,
        "tokens": {who: usage.prompt_tokens + usage.completion_tokens for who, usage in summary.usage.items()},
        "cost": {who: usage.cost for who, usage in summary.usage.items() if usage.cost is not None},
        "pass_hat": {str(k): one and one.mean for k, one in summary.pass_hat.items()},
        "pass_hat_stderr": {str(k): one and one.stderr for k, one in summary.pass_hat.items()},
    }


def _words(results: Sequence[Result], cause: Cause) -> str:
    """What was said of most failures of a cause, cut where it is long."""
    said = Counter(one.fault.words for one in results if one.fault is not None and one.fault.cause == cause)
    return textwrap.shorten(said.most_common(1)[0][0], 200, placeholder=" ...")


def _reason(results: Sequence[Result], n_items: int) -> str | None:
    """Why not every planned simulation is scored; None where every one is."""
    by_cause = count(one.fault for one in results)
    parts = [f"{by_cause[cause]} failed by {cause} ({_words(results, cause)})" for cause in UNSCORED if by_cause[cause]]
    waiting = sum(one.counted.reason == NEEDS_JUDGE for one in results)
    if waiting:
        parts.append(f"{waiting} without a judge for NL_ASSERTION")
    left_out = sum(one.excluded for one in results)
    if left_out:
        parts.append(f"{left_out} left out as upstream would")
    known = waiting + left_out + sum(by_cause[cause] for cause in UNSCORED)
    other = sum(one.counted.reward is None for one in results) - known
    if other:
        parts.append(f"{other} could not be judged")
    if len(results) < n_items:
        parts.append(f"{n_items - len(results)} not run")
    return f"of {n_items} simulations {', '.join(parts)}" if parts else None
