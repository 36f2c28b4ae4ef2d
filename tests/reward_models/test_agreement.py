"""Decision accuracy and rank correlation against pairs counted by hand, and against a simulation whose truth is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from harness.reward_models.agreement import Agreement, agreement
from harness.reward_models.signal import MixtureScores, RunScores, mixture_scores, signal_of
from harness.reward_models.steering import Verdict, verdict, weights, words_of


def scores(values: list[float]) -> MixtureScores:
    """One run a mixture, of whose noise nothing is known."""
    return mixture_scores([RunScores(m, (1.0,), (value,)) for m, value in enumerate(values)])


VALUES = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=3, max_size=9)


@given(VALUES)
def test_both_measures_are_what_one_counts_by_hand(rows: list[tuple[int, int]]) -> None:
    x, y = [float(a) for a, _ in rows], [float(b) for _, b in rows]
    found = agreement(scores(x), scores(y), draws=50)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found.rank is None and found.decisions is None
        return
    assert found.rank is not None and found.decisions is not None
    assert found.rank.seen == pytest.approx(spearmanr(x, y).statistic)
    right = total = 0.0
    for (a, b), (c, d) in itertools.combinations(rows, 2):
        if b != d:
            total += 1
            right += 0.5 if a == c else float((a > c) == (b > d))
    assert found.decisions.seen == pytest.approx(right / total)
    assert found.rank.corrected == pytest.approx(found.rank.seen), "noise that is not known is not corrected for"


def test_without_ties_decisions_are_kendalls_tau_and_chance_is_a_half() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 40)).tolist()
    found = agreement(scores(x), scores(y))
    assert found.decisions is not None
    assert found.decisions.seen == pytest.approx((kendalltau(x, y).statistic + 1) / 2)
    assert found.decisions.interval.low < 0.5 < found.decisions.interval.high


def test_one_seed_always_gives_the_same_interval() -> None:
    x, y = np.random.default_rng(1).normal(size=(2, 10)).tolist()
    one, again, other = (agreement(scores(x), scores(y), seed=seed) for seed in (3, 3, 4))
    assert one == again and one.rank is not None and other.rank is not None
    assert one.rank.interval != other.rank.interval and one.rank.seen == other.rank.seen


def test_too_few_mixtures_are_no_order() -> None:
    with pytest.raises(ValueError, match="3 at least"):
        agreement(scores([1.0, 2.0]), scores([1.0, 2.0]))


def simulated(
    rng: np.random.Generator, *, n: int, r: float, signal: float = 1.0
) -> tuple[MixtureScores, MixtureScores]:
    """Proxies and targets whose true scores have correlation `r`, each with seed noise of half their standard deviation."""
    truth = rng.normal(size=n)
    goal = r * truth + math.sqrt(1 - r * r) * rng.normal(size=n)

    def runs(true: np.ndarray[tuple[int], np.dtype[np.float64]]) -> MixtureScores:
        return mixture_scores(
            [RunScores(m, (1.0,), (float(true[m] + 0.5 * rng.normal()),)) for m in range(n) for _ in range(2)]
        )

    return runs(signal * truth), runs(goal)


def drawn(
    seed: int, *, n: int, r: float, signal: float = 1.0, times: int = 150
) -> list[tuple[Verdict | None, Agreement]]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(times):
        proxy, target = simulated(rng, n=n, r=r, signal=signal)
        found = agreement(proxy, target, draws=400)
        made.append((verdict(signal_of(proxy), found), found))
    return made


@pytest.mark.slow
@pytest.mark.parametrize("r", [0.0, 0.7])
def test_corrected_values_find_the_truth_behind_the_noise_and_their_intervals_hold_it(r: float) -> None:
    rank, right = 6 / math.pi * math.asin(r / 2), 0.5 + math.asin(r) / math.pi
    found = [one for _, one in drawn(7, n=16, r=r, times=300)]
    ranks = [one.rank for one in found if one.rank is not None and one.rank.corrected is not None]
    decisions = [one.decisions for one in found if one.decisions is not None and one.decisions.corrected is not None]
    assert len(ranks) > 280
    assert np.mean([one.corrected for one in ranks]) == pytest.approx(rank, abs=0.06)
    assert np.mean([one.corrected for one in decisions]) == pytest.approx(right, abs=0.03)
    assert np.mean([one.seen for one in ranks]) < rank - 0.05 or r == 0
    for truth, several in ((rank, ranks), (right, decisions)):
        held = [
            one.corrected_interval.low <= truth <= one.corrected_interval.high
            for one in several
            if one.corrected_interval
        ]
        assert np.mean(held) > 0.9


@pytest.mark.slow
def test_verdicts_tell_what_steers_from_what_moves_and_from_noise() -> None:
    steering = [judged for judged, _ in drawn(1, n=16, r=0.9, times=100)]
    moving = [judged for judged, _ in drawn(2, n=16, r=0.0, times=100)]
    noisy = [judged for judged, _ in drawn(3, n=16, r=0.9, signal=0.0, times=100)]
    assert steering.count("steers") > 85
    assert moving.count("moves") > 85 and moving.count("steers") < 8
    assert noisy.count("noise") > 90 and noisy.count("steers") < 5


def test_a_component_that_goes_against_the_target_moves_and_does_not_steer() -> None:
    rng = np.random.default_rng(4)
    proxy, target = simulated(rng, n=16, r=-0.95)
    found = agreement(proxy, target)
    assert found.rank is not None and found.rank.interval.high < 0
    assert verdict(signal_of(proxy), found) == "moves"


def test_too_few_mixtures_and_unknown_noise_leave_it_open() -> None:
    x = [1.0, 2.0, 3.0, 4.0]
    assert verdict(signal_of(scores(x)), agreement(scores(x), scores(x))) is None
    assert verdict(signal_of(scores([*x, 5.0])), None) is None, "its noise is not known"
    assert words_of(None, target=True).startswith("open")
    steady = mixture_scores([RunScores(m, (1.0,), (float(m),)) for m in range(6) for _ in range(2)])
    assert verdict(signal_of(steady), None) == "moves"
    assert words_of("moves", target=False) == "moves with the mixture"


def test_weights_are_slopes_of_what_steers_and_sum_to_one() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=12)
    made = {}
    for name, scale in (("small", 1.0), ("large", 10.0)):
        proxy = mixture_scores([RunScores(m, (1.0,), (scale * float(truth[m]),)) for m in range(12) for _ in range(2)])
        found = agreement(proxy, proxy)
        judged: Verdict | None = verdict(signal_of(proxy), found)
        made[name] = (judged, signal_of(proxy), found)
    made["noise"] = ("noise", made["small"][1], made["small"][2])
    suggested = weights(made)
    assert suggested is not None
    assert suggested["noise"] == 0.0 and sum(suggested.values()) == pytest.approx(1)
    assert suggested["small"] == pytest.approx(10 * suggested["large"]), "units are taken in"
    assert weights({"noise": made["noise"]}) is None


@pytest.mark.parametrize("n", [5, 6, 8])
def test_few_mixtures_in_perfect_order_are_no_certainty(n: int) -> None:
    """Bootstrap draws of a perfect order are perfect: their interval alone is a point, and missed in a fifth of studies of 5."""
    rng = np.random.default_rng(n)
    rank, right = 6 / math.pi * math.asin(0.45), 0.5 + math.asin(0.9) / math.pi
    held, n_perfect = [], 0
    for _ in range(250):
        truth = rng.normal(size=n)
        goal = 0.9 * truth + math.sqrt(1 - 0.81) * rng.normal(size=n)
        found = agreement(scores(truth.tolist()), scores(goal.tolist()), draws=300)
        assert found.rank is not None and found.decisions is not None
        if found.rank.seen == pytest.approx(1.0):
            n_perfect += 1
            assert found.rank.interval.low < 0.95 and found.rank.interval.high == pytest.approx(1.0)
            assert found.decisions.interval.low < 0.95
        held.append(found.rank.interval.low <= rank <= found.rank.interval.high)
        held.append(found.decisions.interval.low <= right <= found.decisions.interval.high)
    assert n_perfect > 1
    assert np.mean(held) > 0.92


def test_a_perfect_contrary_order_is_no_certainty_either() -> None:
    found = agreement(scores([1.0, 2.0, 3.0, 4.0, 5.0]), scores([5.0, 4.0, 3.0, 2.0, 1.0]))
    assert found.rank is not None and found.decisions is not None
    assert found.rank.seen == pytest.approx(-1.0) and found.rank.interval.high > -0.1
    assert found.decisions.seen == 0.0 and found.decisions.interval.high > 0.4
    least = agreement(scores([1.0, 2.0, 3.0]), scores([1.0, 2.0, 3.0])).rank
    assert least is not None and least.interval == pytest.approx((-1.0, 1.0)), "three mixtures say nothing"
