"""Would the same tasks give the same again? Errors from trials, with the tasks taken as they are. Pure arithmetic.

Two questions have two errors: `stderr` takes the tasks as a sample of all such tasks (lm-eval's, tau2's default);
`stderr_repeat` asks what another run on these very tasks would give, and is far smaller where tasks differ much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.core.measurement import Interval
from harness.reward_models.interval import wilson


def stderr_repeat(trials: Sequence[Sequence[float]]) -> float | None:
    """Of the mean over all trials of the same tasks run again; `trials`: per task its scored trials' values, in [0, 1].

    sqrt(sum_t n_t s_t^2) / n. A task with a single trial gets the others' mean variance; without a task that was tried twice
    None. Where no task's trials differ, as if one trial had come out otherwise: 1 / n.
    """
    tried = [values for values in trials if values]
    variances = [_variance(values) for values in tried if len(values) >= 2]
    if not variances:
        return None
    usual = math.fsum(variances) / len(variances)
    n = sum(map(len, tried))
    total = math.fsum(len(values) * (_variance(values) if len(values) >= 2 else usual) for values in tried)
    return math.sqrt(total if total > 0 else 1.0) / n


def interval_repeat(trials: Sequence[Sequence[float]]) -> Interval | None:
    """Where the mean of the same tasks run again and again lies (95%): Wilson's interval at the effective number of answers.

    The variance of fixed tasks is at most that of independent answers; their ratio is shrunk towards 1 with the weight of
    half a success, as few trials estimate it badly.
    """
    error = stderr_repeat(trials)
    if error is None:
        return None
    n = sum(map(len, trials))
    p = math.fsum(value for values in trials for value in values) / n
    alone = p * (1 - p) / n
    effect = min(1.0, error * error / alone) if alone > 0 else 1.0
    successes = n * min(p, 1 - p)
    return wilson(p, n / ((effect * successes + 0.5) / (successes + 0.5)))


def _variance(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
