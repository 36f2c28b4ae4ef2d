"""The item x checkpoint residual: the two-way mean square, whatever the order of items, and what reliability makes of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.reward_models.evidence import residual_of
from harness.reward_models.items import Floats, Items, NoItems, items, layout
from harness.reward_models.residual import Residual, extended
from harness.reward_models.statistics import reliability, spread

RNG = np.random.default_rng(0)


def of(x: Floats, clusters: list[str] | None = None) -> Residual:
    """Of values of shape [checkpoints, items]."""
    ids = [str(i) for i in range(x.shape[1])]
    where = layout(ids, clusters or ids)
    made = residual_of([items(where, row) for row in x])
    assert made is not None
    return made


@given(st.integers(2, 6), st.integers(3, 12), st.integers(0, 2**32 - 1))
def test_it_is_the_mean_square_of_the_two_way_layout(checkpoints: int, n: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(checkpoints, n)) - 5
    left = x - x.mean(0) - x.mean(1, keepdims=True) + x.mean()
    expected = (left**2).sum() / ((checkpoints - 1) * (n - 1)) / n
    assert of(x).noise == pytest.approx(expected, rel=1e-9)


def test_with_clusters_it_is_the_cluster_robust_variance_without_what_clusters_share() -> None:
    clusters = ["a", "a", "b", "c", "c", "c", "d"]
    x = RNG.normal(size=(5, 7)) - 3
    deviations = x - x.mean(1, keepdims=True)
    sums = np.array([[row[[k == c for k in clusters]].sum() for c in "abcd"] for row in deviations])
    expected = 4 / 3 * ((sums - sums.mean(0)) ** 2).sum() / (5 - 1) / 7**2
    assert of(x, clusters).noise == pytest.approx(expected)


def test_two_checkpoints_have_half_the_variance_of_their_difference() -> None:
    x = RNG.normal(size=(2, 30)) - 3
    d = x[1] - x[0]
    assert of(x).noise == pytest.approx(d.var(ddof=1) / 30 / 2)


def test_items_that_are_missing_now_and_then_change_little_and_break_nothing() -> None:
    n, steps = 400, 12
    hard = RNG.normal(size=n)
    x = hard + RNG.normal(scale=0.2, size=(steps, n)) - 4
    ids = [str(i) for i in range(n)]
    made: Residual | None = None
    for step, row in enumerate(x):
        there = [i for i in range(n) if step == 0 or RNG.random() > 0.02]
        made = extended(made, items(layout([ids[i] for i in there], [ids[i] for i in there]), row[there]))
    assert made is not None and made.noise is not None
    assert made.noise == pytest.approx(0.04 / n, rel=0.15)


def test_one_checkpoint_has_no_residual_and_a_step_without_items_is_left_out() -> None:
    where = layout(list("abc"), list("abc"))
    first, second = items(where, [-1.0, -2.0, -3.0]), items(where, [-2.0, -2.0, -3.0])
    alone = residual_of([first])
    assert alone is not None and alone.noise is None
    gap = residual_of([first, NoItems("gone"), second])
    whole = residual_of([first, second])
    assert gap is not None and whole is not None
    assert gap.noise == whole.noise
    assert residual_of([first, NoItems("gone")]) is None


def test_answers_that_all_change_together_are_no_certainty() -> None:
    where = layout([str(i) for i in range(18)], [str(i) for i in range(18)])
    made = residual_of([items(where, [0.0] * 18), items(where, [1.0] * 18)])
    assert made is not None and made.noise is not None
    value = reliability(made.noise, spread([0.0, 1.0]), n=2)
    assert value is not None
    assert 0.9 < value < 1.0


def test_memory_does_not_grow_with_checkpoints() -> None:
    x = RNG.normal(size=(50, 10))
    assert of(x[:2]).mean.nbytes == of(x).mean.nbytes
    assert len(of(x).keys) == 10


def test_on_common_items_the_residual_finds_the_signal_that_a_standard_error_denies() -> None:
    # Paper-like: 80 steps, 1,531 items of sd 1, interaction sd 0.15, a field whose true mean moves by 0.02.
    steps, n = 80, 1_531
    plain, shrunk, denied = [], [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        truth = rng.normal(scale=0.02, size=steps)
        z, trusted = np.zeros(steps), np.zeros(steps)
        for signal in (truth, np.zeros(steps)):
            x = rng.normal(size=n) + rng.normal(scale=0.15, size=(steps, n)) + signal[:, None] - 3
            means = x.mean(1)
            known = spread(means.tolist())
            trust = reliability(of(x).noise, known, n=steps)
            unpaired = reliability(float(x[0].var(ddof=1) / n), known, n=steps)
            assert trust is not None and unpaired is not None
            one = (means - known.mean) / known.std
            z += one
            trusted += trust * one
            if signal is truth:
                denied.append(unpaired)
                assert trust > 0.9
        plain.append(np.corrcoef(z, truth)[0, 1])
        shrunk.append(np.corrcoef(trusted, truth)[0, 1])
    assert max(denied) == 0.0, "one checkpoint's error over items calls all of it noise"
    assert np.mean(plain) < 0.8
    assert np.mean(shrunk) > 0.95


def test_the_residual_is_unbiased() -> None:
    n, steps = 40, 5
    noise = [of(RNG.normal(size=n) * 2 + RNG.normal(scale=0.3, size=(steps, n))).noise for _ in range(400)]
    assert np.mean([math.sqrt(n) * math.sqrt(v or 0) for v in noise]) == pytest.approx(0.3, rel=0.03)


def test_items_of_one_cluster_leave_the_residual_as_it_was() -> None:
    where = layout(list("ab"), ["x", "x"])
    assert extended(None, items(where, [1.0, 2.0])) is None
    assert isinstance(items(where, [1.0, 2.0]), Items)
