"""The same tasks again: an error from trials alone, which differences between tasks do not widen."""

from __future__ import annotations

import numpy as np
import pytest

from harness.reward_models.repeat import interval_repeat, stderr_repeat
from harness.reward_models.statistics import clustered_mean


def test_the_error_by_hand() -> None:
    # s^2 of (1, 0) is 1/2, of (1, 1) is 0: sqrt(2 * 1/2 + 2 * 0) / 4
    assert stderr_repeat([[1, 0], [1, 1]]) == pytest.approx(0.25)
    assert stderr_repeat([[1, 0], [1]]) == pytest.approx(np.sqrt(2 * 0.5 + 1 * 0.5) / 3), (
        "a single trial: the others' variance"
    )


@pytest.mark.parametrize("trials", [[], [[1.0], [0.0]], [[]]])
def test_without_a_task_that_was_tried_twice_nobody_knows(trials: list[list[float]]) -> None:
    assert stderr_repeat(trials) is None
    assert interval_repeat(trials) is None


def test_trials_that_agree_are_no_certainty() -> None:
    assert stderr_repeat([[1, 1], [0, 0]]) == 0.25
    found = interval_repeat([[0, 0, 0, 0]] * 9)
    assert found is not None
    assert found.low == 0 and 0.05 < found.high < 0.15


def test_it_is_the_spread_of_the_same_tasks_run_again_where_a_sample_of_tasks_would_spread_wider() -> None:
    rng = np.random.default_rng(0)
    rates = np.array([0.0, 0.1, 0.2, 0.9, 1.0, 1.0] * 5)
    runs = (rng.random((3_000, 30, 4)) < rates[None, :, None]).astype(float)
    again = runs.mean((1, 2)).std()
    errors = [stderr_repeat(one.tolist()) for one in runs[:500]]
    assert np.mean([e for e in errors if e is not None]) == pytest.approx(again, rel=0.05)
    sample = clustered_mean(runs[0].ravel(), np.repeat(np.arange(30), 4).tolist()).stderr
    assert sample is not None and sample > 3 * again
    held = [
        (i := interval_repeat(one.tolist())) is not None and i.low <= rates.mean() <= i.high for one in runs[:1_000]
    ]
    assert 0.93 < np.mean(held) < 0.975
