"""Paired changes: what items do to both checkpoints cancels, members and shared items are respected, errors cover."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.reward_models.interval import stderr
from harness.reward_models.items import Items, Layout, NoItems, items, layout
from harness.reward_models.paired import (
    Change,
    change,
    differences,
    gain_stderr,
    mcnemar,
    sum_stderr,
)

RNG = np.random.default_rng(0)


def alone(n: int, scope: str = "") -> Layout:
    return layout([str(i) for i in range(n)], [str(i) for i in range(n)], scope=scope)


def changed(before: Items, after: Items) -> Change:
    found = differences(before, after)
    assert isinstance(found, Items)
    return change(found)


@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=2, max_size=40))
def test_a_paired_change_is_the_mean_difference_with_its_standard_error(rows: list[tuple[float, float]]) -> None:
    x, y = (np.array(column) for column in zip(*rows, strict=True))
    made = changed(items(alone(len(rows)), x), items(alone(len(rows)), y))
    d = y - x
    assert made.change == pytest.approx(d.mean(), abs=1e-9)
    assert made.n_paired == made.n_clusters == len(rows)
    if np.ptp(d) > 1e-6:
        assert made.stderr == pytest.approx(d.std(ddof=1) / math.sqrt(len(d)), rel=1e-6)
        back = changed(items(alone(len(rows)), y), items(alone(len(rows)), x))
        assert (back.change, back.stderr) == (-made.change, pytest.approx(made.stderr))
        assert back.p == pytest.approx(made.p, abs=1e-9)


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=20, unique=True), st.floats(-50, 50))
def test_what_an_item_does_to_both_cancels(hard: list[float], shift: float) -> None:
    n = len(hard)
    before = items(alone(n), np.arange(n) * 0.5)
    after = items(alone(n), np.arange(n) * 0.25 + shift)
    plain = changed(before, after)
    moved = changed(items(alone(n), before.values + hard), items(alone(n), after.values + hard))
    assert moved.change == pytest.approx(plain.change, abs=1e-9)
    assert moved.stderr == pytest.approx(plain.stderr, rel=1e-6)


def test_clusters_of_a_difference_by_hand() -> None:
    where = layout(list("abcde"), ["x", "x", "y", "z", "z"])
    made = changed(items(where, [0.0] * 5), items(where, [1.0, 2.0, 3.0, 4.0, 5.0]))
    assert made.stderr == pytest.approx(math.sqrt(1.5 * 18 / 25))
    assert (made.n_paired, made.n_clusters, made.df) == (5, 3, pytest.approx(2.0))


def test_only_items_that_both_scored_are_paired_whatever_their_order() -> None:
    before = items(layout(list("abc"), list("abc")), [1.0, 2.0, 4.0])
    after = items(layout(list("dcb"), list("dcb")), [9.0, 5.0, 2.5])
    made = changed(before, after)
    assert (made.change, made.n_paired) == (0.75, 2)
    nothing = differences(before, items(layout(list("xy"), list("xy")), [1.0, 2.0]))
    assert nothing == NoItems("no item was scored both times")


@given(st.integers(0, 20), st.integers(0, 20))
def test_mcnemar_is_the_exact_binomial_test(up: int, down: int) -> None:
    n = up + down
    tail = sum(Fraction(math.comb(n, k), 2**n) for k in range(min(up, down) + 1))
    assert mcnemar(up, down) == pytest.approx(float(min(Fraction(1), 2 * tail)))
    values = [0.0] * (up + down + 3)
    after = [1.0] * up + [0.0] * (down + 3)
    before = [0.0] * up + [1.0] * down + [0.0] * 3
    made = changed(items(alone(len(values)), before), items(alone(len(values)), after))
    assert made.p == pytest.approx(mcnemar(up, down))
    assert made.df is None


def test_a_suite_changes_as_the_mean_of_its_members_changes() -> None:
    ids = [f"p/{i}" for i in range(10)] + [f"q/{i}" for i in range(90)]
    where = layout(ids, ids, strata=[0] * 10 + [1] * 90, weights=[0.5, 0.5])
    x, y = RNG.normal(size=100), RNG.normal(size=100)
    made = changed(items(where, x), items(where, y))
    d = y - x
    assert made.change == pytest.approx((d[:10].mean() + d[10:].mean()) / 2)
    assert made.stderr == pytest.approx(0.5 * math.hypot(stats.sem(d[:10]), stats.sem(d[10:])))
    assert made.df is not None
    assert 9 <= made.df < 98, "Welch and Satterthwaite"


def test_components_on_other_items_add_their_variances() -> None:
    first = [items(alone(50, "a"), RNG.normal(size=50)) for _ in range(2)]
    second = [items(alone(80, "b"), RNG.normal(size=80)) for _ in range(2)]
    parts = [changed(*first).stderr, changed(*second).stderr]
    assert parts[0] is not None and parts[1] is not None
    assert gain_stderr([(0.3, *first), (-0.7, *second)]) == pytest.approx(math.hypot(0.3 * parts[0], 0.7 * parts[1]))


def test_components_that_share_items_are_taken_together_per_item() -> None:
    x, y, u, v = (RNG.normal(size=40) for _ in range(4))
    u, v = x + 0.1 * u, y + 0.1 * v  # two metrics of one task
    made = gain_stderr(
        [
            (0.5, items(alone(40, "t"), x), items(alone(40, "t"), y)),
            (0.5, items(alone(40, "t"), u), items(alone(40, "t"), v)),
        ]
    )
    assert made == pytest.approx(stats.sem((y - x + v - u) / 2))
    assert sum_stderr([(1.0, items(alone(40, "t"), x)), (-1.0, items(alone(40, "t"), x))]) == pytest.approx(
        0.0, abs=1e-12
    )


def test_an_item_that_only_one_step_scored_enters_the_gain_alone() -> None:
    before, after = items(layout(list("abc"), list("abc")), [0.0, 3.0, 1.0]), items(alone(30, "o"), RNG.normal(size=30))
    together = gain_stderr([(1.0, before, after)])
    one, other = stderr(before), stderr(after)
    assert one is not None and other is not None
    assert together == pytest.approx(math.hypot(one, other)), "no item in common: the errors of two samples"


def test_answers_of_which_none_changed_leave_room_for_a_change() -> None:
    where = alone(100)
    made = changed(items(where, [0.0] * 100), items(where, [0.0] * 100))
    assert (made.change, made.p) == (0.0, 1.0)
    assert made.stderr == pytest.approx(0.01)
    assert made.interval is not None
    assert made.interval.low < -0.015 and made.interval.high > 0.015
    assert gain_stderr([(1.0, items(where, [0.0] * 100), items(where, [0.0] * 100))]) == pytest.approx(0.01)


def test_answers_that_mostly_became_wrong_have_the_same_interval_as_those_that_became_right() -> None:
    right, wrong = [1.0] * 30 + [0.0] * 10, [0.0] * 40
    up = changed(items(alone(40), wrong), items(alone(40), right)).interval
    down = changed(items(alone(40), right), items(alone(40), wrong)).interval
    assert up is not None and down is not None
    assert (-down.high, -down.low) == pytest.approx(up)


def test_one_cluster_has_a_change_without_an_error() -> None:
    where = layout(list("ab"), ["x", "x"])
    made = changed(items(where, [-1.0, -2.0]), items(where, [-2.0, -5.0]))
    assert (made.change, made.stderr, made.interval, made.p) == (-2.0, None, None, None)


def test_p_and_interval_agree() -> None:
    for _ in range(300):
        n = int(RNG.integers(5, 60))
        d = RNG.gamma(0.7, size=n) - 0.7 + RNG.normal() * 0.3
        made = changed(items(alone(n), np.zeros(n) - 3), items(alone(n), d - 3))
        assert made.interval is not None and made.p is not None
        assert (made.interval.low <= 0 <= made.interval.high) == (made.p >= 0.05)


def test_a_paired_interval_covers_where_an_unpaired_one_is_five_times_as_wide() -> None:
    hits = widths = 0.0
    n, draws = 128, 2_000
    where = alone(n)
    for _ in range(draws):
        hard = RNG.normal(size=n)
        before, after = (items(where, hard + RNG.normal(scale=0.15, size=n) - 3) for _ in range(2))
        made = changed(before, after)
        assert made.interval is not None and made.stderr is not None
        hits += made.interval.low <= 0 <= made.interval.high
        widths += made.stderr / math.hypot(stderr(before) or 0, stderr(after) or 0)
    assert 0.935 < hits / draws < 0.965
    assert widths / draws < 0.2


def test_differences_of_other_members_are_refused() -> None:
    one = layout(["p/0", "q/0"], ["p", "q"], strata=[0, 1], weights=[0.5, 0.5])
    found = differences(items(alone(2), [0.0, 1.0]), items(one, [0.0, 1.0]))
    assert found == NoItems("its members are others")
    assert change(differences(items(one, [0.0, 1.0]), items(one, [1.0, 1.0]))).stderr is None  # type: ignore[arg-type]


def test_rounding_is_no_spread() -> None:
    """0.3 - 0.1 is not 0.2: differences that are equal but for that have no error, and are no finding."""
    grid = [0.1, 0.0, 0.7, 1.1, 2.3]
    moved = changed(items(alone(5), grid), items(alone(5), [value + 0.2 for value in grid]))
    assert moved.change == pytest.approx(0.2)
    assert (moved.stderr, moved.interval, moved.p) == (None, None, None)
    up = [0.5 * value / 2.3 for value in grid]
    bounded = changed(items(alone(5), up), items(alone(5), [value + 0.2 for value in up]))
    assert bounded.stderr == pytest.approx(1 / 5), "as if one had come out otherwise"


def test_values_that_are_equal_but_for_rounding_are_those_of_the_same_weights() -> None:
    before = RNG.normal(size=9) - 3
    same = changed(items(alone(9), before), items(alone(9), np.nextafter(before, 0.0)))
    assert (same.change, same.stderr) == (0.0, 0.0)


@given(st.lists(st.tuples(*[st.floats(-100, 100)] * 3), min_size=2, max_size=30))
def test_components_of_one_layout_add_up_as_those_of_another_order_do(rows: list[tuple[float, float, float]]) -> None:
    n = len(rows)
    x, y, z = (np.array(column) for column in zip(*rows, strict=True))
    one = alone(n)
    names = [str(i) for i in reversed(range(n))]
    turned = layout(names, names)  # the same items, which have to be found by name
    together = sum_stderr([(0.5, items(one, x)), (-2.0, items(one, y)), (1.0, items(one, z))])
    apart = sum_stderr([(0.5, items(one, x)), (-2.0, items(turned, y[::-1])), (1.0, items(one, z))])
    assert (together is None) == (apart is None)
    assert together == (None if apart is None else pytest.approx(apart, rel=1e-12, abs=1e-12))
