"""The minimum detectable effect is found in 80% of comparisons, and the items that would decide decide in 80%."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.reward_models.items import Items, items, layout
from harness.reward_models.paired import Change, change, differences
from harness.reward_models.power import detectable, detectable_answers, items_to_decide, times_to_decide

DRAWS = 3000


def alone(n: int, *, per: int = 1) -> list[str]:
    return [str(i // per) for i in range(n)]


def test_it_is_two_point_eight_errors_and_more_with_few_clusters() -> None:
    assert detectable(1.0) == pytest.approx(2.8016, abs=1e-4)
    assert detectable(0.5, 1e6) == pytest.approx(1.4008, abs=1e-3)
    assert detectable(1.0, 8) == pytest.approx(2.306 + 0.889, abs=1e-3)
    assert detectable(0.0) == 0.0


@pytest.mark.parametrize(("n", "per"), [(200, 1), (160, 4)])
def test_a_change_of_its_size_is_found_in_eighty_percent_of_comparisons(n: int, per: int) -> None:
    rng = np.random.default_rng(n)
    where = layout([str(i) for i in range(n)], alone(n, per=per))
    hard = rng.normal(size=n)

    def moved(by: float) -> Items:
        apart = 0.1 * rng.normal(size=n) + 0.1 * np.repeat(rng.normal(size=n // per), per)
        made = differences(items(where, hard), items(where, hard + by + apart))
        assert isinstance(made, Items)
        return made

    errors = [change(moved(0.0)) for _ in range(50)]
    effect = float(np.mean([detectable(one.stderr or 0.0, one.df) for one in errors]))
    found = sum((change(moved(effect)).p or 1.0) <= 0.05 for _ in range(DRAWS)) / DRAWS
    assert 0.76 < found < 0.84


def test_that_many_items_decide_in_eighty_percent_of_cases() -> None:
    rng = np.random.default_rng(1)
    n, truth, threshold, sd = 100, 0.02, -0.01, 0.2
    needed = items_to_decide(truth - threshold, sd / np.sqrt(n), n)
    assert needed == 349
    low = truth + rng.normal(scale=sd, size=(DRAWS, needed)).mean(axis=1) - 1.96 * sd / np.sqrt(needed)
    assert 0.77 < (low >= threshold).mean() < 0.83


@given(st.floats(-1, 1).filter(lambda d: abs(d) > 1e-2), st.floats(1e-3, 1), st.integers(1, 10_000))
def test_twice_the_distance_needs_a_quarter_of_the_items_and_never_fewer_than_there_are(
    distance: float, stderr: float, n: int
) -> None:
    times, far = times_to_decide(distance, stderr), times_to_decide(2 * distance, stderr)
    assert times is not None and far is not None
    assert far == pytest.approx(times / 4)
    assert (items_to_decide(distance, stderr, n) or 0) >= max(n, times * n - 1e-6)


def test_on_the_threshold_no_number_of_items_decides() -> None:
    assert times_to_decide(0.0, 0.1) is None
    assert items_to_decide(0.0, 0.1, 100) is None
    assert times_to_decide(0.1 + 0.2 - 0.3, 0.1) is None, "within rounding of it"
    assert times_to_decide(1e-300, 0.1) is None


@pytest.mark.parametrize(("n", "per"), [(12, 1), (164, 1), (1319, 1), (18, 2), (200, 4)])
def test_where_no_answer_flipped_the_change_that_would_be_found_is_not_that_of_an_error_of_nearly_0(
    n: int, per: int
) -> None:
    """Answers that become right, each by itself: 80% of such changes are a finding. 2.80 errors would be one in 6%."""
    where = layout([str(i) for i in range(n)], alone(n, per=per))
    wrong = items(where, np.zeros(n))

    def compared(right: np.ndarray) -> Change:
        made = differences(wrong, items(where, right.astype(float)))
        assert isinstance(made, Items)
        return change(made)

    still = compared(np.zeros(n))
    assert still.stderr is not None and still.n_answers == n
    effect = detectable_answers(still.stderr, still.df, n_answers=n, n_clusters=n // per)
    assert effect is not None
    rng = np.random.default_rng(n)
    draws = rng.random((1500, n)) < effect
    found = np.mean([(compared(one).p or 0.0) <= 0.05 for one in draws])
    low, high = (0.76, 0.84) if per == 1 else (0.7, 0.9)  # flips that share a cluster say less
    assert low < found < high


@pytest.mark.parametrize(("n", "df"), [(1, None), (5, None), (2, 1.0), (3, 2.0)])
def test_so_few_answers_cannot_show_any_change(n: int, df: float | None) -> None:
    assert detectable_answers(1 / n, df, n_answers=n, n_clusters=n) is None


def test_where_many_flipped_it_is_two_point_eight_errors() -> None:
    assert detectable_answers(0.02, None, n_answers=1000, n_clusters=1000) == detectable(0.02)
