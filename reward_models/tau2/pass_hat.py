"""pass^k: the chance that k trials of a task all succeed. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from harness.core.measurement import Interval
from harness.reward_models.interval import interval, stderr
from harness.reward_models.items import items, layout


class Trials(NamedTuple):
    """Of one task: how many trials were scored, and how many of them succeeded."""

    n: int
    successes: int


def pass_hat(trials: Trials, k: int) -> float | None:
    """C(successes, k) / C(n, k), the unbiased estimate in [0, 1]; None when fewer than k trials were scored.

    `(successes / n) ** k` is biased upwards: 0.212 against a true 0.153 at n = k = 4. Raises ValueError for k < 1, or more
    successes than trials.
    """
    if k < 1:
        raise ValueError(f"pass^k needs k >= 1, not {k}")
    if not 0 <= trials.successes <= trials.n:
        raise ValueError(f"{trials.successes} successes of {trials.n} trials")
    return None if trials.n < k else math.comb(trials.successes, k) / math.comb(trials.n, k)


class PassHat(NamedTuple):
    """The mean over tasks with the error of another sample of tasks; no error with a single task."""

    mean: float
    stderr: float | None
    interval: Interval | None


def pass_hat_estimate(tasks: Sequence[Trials], k: int) -> PassHat | None:
    """The mean over tasks; None when any task has fewer than k scored trials, or there is no task.

    Its error is never 0: a task's pass^k is one value, and tasks are independent.
    """
    values = [value for trials in tasks if (value := pass_hat(trials, k)) is not None]
    if not values or len(values) < len(tasks):
        return None
    names = [str(task) for task in range(len(values))]
    found = items(layout(names, names), values)
    return PassHat(found.mean, stderr(found), interval(found))
