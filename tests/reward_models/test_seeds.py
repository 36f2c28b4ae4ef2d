"""Seeds of one training: recognised by name, averaged item by item, and their spread is what covers another seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.reward_models.items import Items, NoItems, items, layout
from harness.reward_models.seeds import mean_items, seed_error, seed_spread, training_of


@pytest.mark.parametrize(
    ("name", "training"),
    [
        ("mix-2-seed1", "mix-2"),
        ("mix-2_seed=13", "mix-2"),
        ("mix-2.Seed_0", "mix-2"),
        ("seed2/mix-2", "mix-2"),
        ("mix_seed1_lr3", "mix_lr3"),
        ("sft[seed=1]", "sft"),
        ("sft[alpha=0.5,seed=3]", "sft[alpha=0.5]"),
        ("sft[seed=3,alpha=0.5]", "sft[alpha=0.5]"),
        ("seed7", "seed"),
        ("mix-2", "mix-2"),
        ("seedling3", "seedling3"),
        ("linseed2", "linseed2"),
        ("seed", "seed"),
        ("mix-seed1b", "mix-seed1b"),
        ("reseed-1", "reseed-1"),
    ],
)
def test_a_name_without_its_seed(name: str, training: str) -> None:
    assert training_of(name) == training


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8))
def test_the_spread_is_the_sample_standard_deviation(values: list[float]) -> None:
    made = seed_spread(values)
    assert made.n == len(values)
    assert made.std == pytest.approx(np.std(values, ddof=1), abs=1e-9)


def test_a_single_seed_has_no_spread() -> None:
    assert seed_spread([0.5]).std is None
    assert seed_error(seed_spread([0.5]), seed_spread([0.7])) is None
    assert seed_error(seed_spread([]), seed_spread([0.7, 0.8])) is None


def test_the_error_of_a_difference_by_hand() -> None:
    before, after = seed_spread([0.0, 2.0]), seed_spread([5.0, 6.0, 7.0])
    pooled = (1 * 2.0 + 2 * 1.0) / 3
    assert seed_error(before, after) == pytest.approx(math.sqrt(pooled * (1 / 2 + 1 / 3)))
    assert seed_error(seed_spread([1.0]), after) == pytest.approx(math.sqrt(1.0 * (1 + 1 / 3)))


def test_steps_of_the_same_seeds_are_compared_seed_by_seed() -> None:
    before, after = seed_spread([0.0, 5.0, 9.0]), seed_spread([1.0, 6.0, 10.5])
    assert seed_error(before, after, same_seeds=True) == pytest.approx(np.std([1, 1, 1.5], ddof=1) / math.sqrt(3))


def test_the_error_covers_what_other_seeds_give() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(4000):
        before, after = seed_spread(rng.normal(size=4).tolist()), seed_spread((rng.normal(size=4) + 1).tolist())
        error = seed_error(before, after)
        assert error is not None
        hits += abs(np.mean(after.values) - np.mean(before.values) - 1) <= 2.447 * error  # t with 6
    assert 0.935 < hits / 4000 < 0.965


def test_items_are_averaged_over_the_seeds_that_all_scored_them() -> None:
    first = items(layout(list("abc"), ["x", "x", "y"], scope="s"), [1.0, 0.0, 1.0])
    second = items(layout(list("dcb"), ["y", "y", "x"], scope="s"), [1.0, 0.0, 1.0])
    made = mean_items([first, second])
    assert isinstance(made, Items)
    assert (made.layout.ids, made.values.tolist()) == (("b", "c"), [0.5, 0.5])
    assert made.layout.unit_keys == (("s", "x"), ("s", "y")) and made.unit_interval.tolist() == [True]
    assert mean_items([first]) is first
    assert mean_items([first, NoItems("gone")]) == NoItems("gone")
    assert mean_items([first, items(layout(["z"], ["z"]), [1.0])]) == NoItems("no item was scored by every seed")
    outside = mean_items([first, items(first.layout, [2.0, 0.0, 1.0])])
    assert isinstance(outside, Items) and outside.unit_interval.tolist() == [False]


def test_seeds_of_a_group_keep_their_members_weights() -> None:
    where = layout(list("abcd"), list("abcd"), strata=[0, 0, 1, 1], weights=[0.25, 0.75])
    made = mean_items([items(where, [0, 0, 1, 1]), items(where, [1, 0, 1, 1])])
    assert isinstance(made, Items)
    assert made.mean == pytest.approx(0.25 * 0.25 + 0.75)
    fewer = layout(list("ab"), list("ab"))
    assert mean_items([items(where, [0, 0, 1, 1]), items(fewer, [0, 0])]) == NoItems("the seeds have other members")
