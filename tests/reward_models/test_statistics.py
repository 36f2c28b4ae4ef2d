"""Means with standard errors, and reliability: against numpy, by hand, and in the simulation they are meant for."""

from __future__ import annotations

import math
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.reward_models.statistics import Spread, believable, clustered_mean, reliability, spread

SCORES = st.floats(-1e6, 1e6)


@given(st.lists(st.tuples(SCORES, st.integers(0, 4)), min_size=1, max_size=20), st.randoms())
def test_the_order_of_items_does_not_matter(items: list[tuple[float, int]], random: Random) -> None:
    shuffled = list(items)
    random.shuffle(shuffled)
    one = clustered_mean([x for x, _ in items], [c for _, c in items])
    other = clustered_mean([x for x, _ in shuffled], [c for _, c in shuffled])
    assert other == one, "exact: sums are correctly rounded"
    assert spread([x for x, _ in shuffled]) == spread([x for x, _ in items])


@given(st.lists(SCORES, min_size=2, max_size=30))
def test_singleton_clusters_give_the_standard_error_of_a_mean(values: list[float]) -> None:
    estimate = clustered_mean(values, range(len(values)))
    assert estimate.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert estimate.stderr == pytest.approx(np.std(values, ddof=1) / math.sqrt(len(values)), abs=1e-9)


def test_clustered_standard_error_of_an_example_by_hand() -> None:
    # mean 3; cluster sums of deviations: a = (1-3)+(2-3) = -3, b = (3-3) = 0, c = (4-3)+(5-3) = 3
    # SE^2 = 3/2 * (9 + 0 + 9) / 25
    estimate = clustered_mean([1.0, 2.0, 3.0, 4.0, 5.0], ["a", "a", "b", "c", "c"])
    assert estimate == (3.0, pytest.approx(math.sqrt(1.5 * 18 / 25)))


def test_items_that_share_a_context_widen_the_error() -> None:
    values = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    alone = clustered_mean(values, range(6)).stderr
    together = clustered_mean(values, [0, 0, 0, 1, 1, 1]).stderr
    assert alone is not None
    assert together is not None
    assert together > alone


@pytest.mark.parametrize("clusters", [["a"], ["a", "a"]])
def test_one_cluster_has_no_standard_error(clusters: list[str]) -> None:
    assert clustered_mean([1.0] * len(clusters), clusters).stderr is None


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_nothing_and_nan_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="at least one value, all of them finite"):
        clustered_mean(values, range(len(values)))


def test_a_label_per_value_is_required() -> None:
    with pytest.raises(ValueError, match="2 values but 1 cluster"):
        clustered_mean([1.0, 2.0], ["a"])


@given(st.lists(SCORES, min_size=1, max_size=20))
def test_spread_is_the_population_mean_and_deviation(values: list[float]) -> None:
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    variance = sum((value - mean) ** 2 for value in exact) / len(exact)
    assert spread(values).mean == pytest.approx(float(mean), abs=1e-9)
    assert spread(values).std == pytest.approx(math.sqrt(float(variance)), abs=1e-6, rel=1e-6)


@given(SCORES, st.integers(1, 12))
def test_equal_values_do_not_vary_at_all(value: float, n: int) -> None:
    assert spread([value] * n) == Spread(value, 0.0), "a rounded mean would leave a deviation to divide by"


@given(st.none() | st.floats(0, 1e300), st.floats(0, 1e300), st.integers(1, 100))
def test_reliability_is_a_share(noise: float | None, std: float, n: int) -> None:
    value = reliability(noise, Spread(0.0, std), n=n)
    if noise is None or std == 0 or n == 1:
        assert value is None
    else:
        assert value is not None
        assert 0.0 <= value <= 1.0


def test_reliability_by_hand() -> None:
    # Two checkpoints at -2 and 2: population variance 4, unbiased 8.
    assert reliability(0.0, Spread(0.0, 2.0), n=2) == 1.0
    assert reliability(2.0, Spread(0.0, 2.0), n=2) == pytest.approx(0.75)
    assert reliability(9.0, Spread(0.0, 2.0), n=2) == 0.0
    assert reliability(2.0, None, n=2) is None


def test_an_error_of_0_is_believed_of_nobody() -> None:
    assert believable(0.4, 0.05, 100) == 0.05
    assert believable(0.0, 0.0, 18) == believable(1.0, 0.0, 18) == 1 / 18, "as if one had come out otherwise"
    assert believable(-2.0, 0.0, 18) is None and believable(0.4, 0.0, 18) is None
    assert believable(1.0, 0.0, 0) is None and believable(0.0, None, 18) is None
