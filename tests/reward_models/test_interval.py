"""Intervals cover: weak models, few clusters, heavy tails, suites. The full table is benchmarks/coverage.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import binomtest

from harness.core.measurement import Interval
from harness.reward_models.interval import interval, t_quantile, wilson
from harness.reward_models.items import Floats, Items, items, layout
from harness.reward_models.statistics import clustered_mean

RNG = np.random.default_rng(0)


def of(values: Floats | list[float], per: int = 1) -> Items:
    n = len(values)
    return items(layout([str(i) for i in range(n)], [str(i // per) for i in range(n)]), values)


def held(one: Interval | None, truth: float) -> bool:
    return one is not None and one.low <= truth <= one.high


@given(st.integers(0, 40), st.integers(1, 40))
def test_wilson_is_wilsons(successes: int, more: int) -> None:
    n = successes + more
    known = binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson(successes / n, n) == pytest.approx((known.low, known.high), abs=1e-9)


@given(st.integers(0, 30), st.integers(2, 30))
def test_an_accuracy_has_wilsons_interval(successes: int, more: int) -> None:
    n = successes + more
    made = interval(of([1.0] * successes + [0.0] * more))
    assert made == pytest.approx(wilson(successes / n, n), abs=1e-9)


@given(st.lists(st.floats(-50, 50), min_size=3, max_size=40), st.floats(-100, -60), st.floats(0.1, 10))
def test_it_moves_and_stretches_with_the_values(values: list[float], shift: float, scale: float) -> None:
    plain = interval(of([value - 60 for value in values]))
    moved = interval(of([scale * (value - 60) + shift for value in values]))
    if plain is None or moved is None or np.ptp(values) < 1e-3:
        return
    assert moved.low == pytest.approx(scale * plain.low + shift, rel=1e-6, abs=1e-6)
    assert moved.high == pytest.approx(scale * plain.high + shift, rel=1e-6, abs=1e-6)


def test_for_symmetric_values_it_is_students() -> None:
    x = np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0]) - 9
    half = stats.t.ppf(0.975, 5) * stats.sem(x)
    assert interval(of(x)) == pytest.approx((-9 - half, -9 + half))
    assert t_quantile(5) == pytest.approx(stats.t.ppf(0.975, 5))


def test_a_heavy_tail_reaches_further_on_its_side() -> None:
    x = -RNG.lognormal(size=200)
    made = interval(of(x))
    assert made is not None
    assert x.mean() - made.low > 1.1 * (made.high - x.mean())


@pytest.mark.parametrize("n", [2, 18, 164])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_answers_that_are_all_alike_leave_room(n: int, value: float) -> None:
    made = interval(of([value] * n))
    assert made is not None
    assert value in made
    assert made.high - made.low == pytest.approx(1.96**2 / (n + 1.96**2), rel=1e-3)


def test_trials_of_one_task_count_less_than_answers() -> None:
    rows = [1.0, 1.0, 0.0, 0.0] * 10
    together, apart = interval(of(rows, per=2)), interval(of(rows))
    assert together is not None and apart is not None
    assert together.high - together.low > 1.3 * (apart.high - apart.low)


def test_one_cluster_and_equal_log_probs_have_none() -> None:
    assert interval(of([-1.0, -2.0], per=2)) is None
    assert interval(of([-1.0, -1.0])) is None


def coverage(draw: object, n: int = 2_000) -> float:
    assert callable(draw)
    return sum(held(*draw()) for _ in range(n)) / n


def test_weak_models_are_covered_where_a_standard_error_covers_64_percent() -> None:
    def draw() -> tuple[Interval | None, float]:
        p = RNG.uniform(0.005, 0.02)
        return interval(of((RNG.random(100) < p).astype(float))), p

    assert 0.935 < coverage(draw) < 0.97


def test_few_clusters_are_covered() -> None:
    def draw() -> tuple[Interval | None, float]:
        x = np.repeat(RNG.normal(size=9), 4) + RNG.normal(size=36) - 5
        return interval(of(x, per=4)), -5.0

    assert 0.935 < coverage(draw) < 0.965


def test_heavy_tails_are_covered_from_64_items_on() -> None:
    built = 0.0

    def draw() -> tuple[Interval | None, float]:
        nonlocal built
        x, truth = -RNG.lognormal(size=64), -math.exp(0.5)
        built += abs(x.mean() - truth) <= 1.96 * stats.sem(x)
        return interval(of(x)), truth

    assert 0.935 < coverage(draw) < 0.965
    assert built / 2_000 < 0.92


def test_few_trials_of_weak_agents_are_covered() -> None:
    built = 0.0

    def draw() -> tuple[Interval | None, float]:
        nonlocal built
        p = RNG.uniform(0.05, 0.2)
        rates = np.repeat(RNG.beta(p, 1 - p, size=9), 2)
        won = (RNG.random(18) < rates).astype(float)
        made = clustered_mean(won, np.repeat(np.arange(9), 2).tolist())
        built += abs(made.mean - p) <= 1.96 * (made.stderr or 0)
        return interval(of(won, per=2)), p

    assert 0.935 < coverage(draw) < 0.985
    assert built / 2_000 < 0.8


def test_a_suite_of_weak_benchmarks_is_covered() -> None:
    ids = [str(i) for i in range(264)]
    where = layout(ids, ids, strata=[0] * 64 + [1] * 200, weights=[0.5, 0.5])

    def draw() -> tuple[Interval | None, float]:
        p = RNG.uniform(0.005, 0.04, size=2)
        return interval(items(where, (RNG.random(264) < p[where.strata]).astype(float))), float(p.mean())

    assert 0.93 < coverage(draw) < 0.975
