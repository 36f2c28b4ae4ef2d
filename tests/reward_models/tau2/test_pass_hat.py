"""pass^k is the share of k-subsets of the trials in which all succeed."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.reward_models.tau2.pass_hat import Trials, pass_hat, pass_hat_estimate
from harness.reward_models.tau2.result import Key, Result
from harness.reward_models.tau2.reward import NOTHING, Verdict
from harness.reward_models.tau2.summary import Mean, summarize

TRIALS = st.integers(1, 9).flatmap(lambda n: st.builds(Trials, st.just(n), st.integers(0, n)))


@given(TRIALS, st.integers(1, 10))
def test_it_counts_subsets(trials: Trials, k: int) -> None:
    outcomes = [True] * trials.successes + [False] * (trials.n - trials.successes)
    subsets = [all(subset) for subset in itertools.combinations(outcomes, k)]
    found = pass_hat(trials, k)
    assert found == (None if k > trials.n else pytest.approx(sum(subsets) / len(subsets)))


@given(TRIALS)
def test_it_never_rises_with_k(trials: Trials) -> None:
    values = [pass_hat(trials, k) or 0.0 for k in range(1, trials.n + 1)]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(trials.successes / trials.n)


def test_it_is_unbiased_where_the_power_of_the_mean_is_not() -> None:
    rng = random.Random(0)
    n = k = 4
    chances = [0.2, 0.5, 0.8]
    truth = math.fsum(p**k for p in chances) / len(chances)
    draws = [Trials(n, sum(rng.random() < p for _ in range(n))) for _ in range(20_000) for p in chances]
    found = pass_hat_estimate(draws, k)
    assert found is not None and found.mean == pytest.approx(truth, abs=0.01)
    assert math.fsum((t.successes / t.n) ** k for t in draws) / len(draws) > truth + 0.04


def test_one_task_with_too_few_trials_makes_the_mean_unknown() -> None:
    assert pass_hat_estimate([Trials(4, 4), Trials(3, 3)], 4) is None
    whole = pass_hat_estimate([Trials(4, 4), Trials(3, 3)], 3)
    assert whole is not None and whole.mean == 1.0
    assert pass_hat_estimate([], 1) is None


def test_its_error_is_that_of_a_mean_over_tasks_and_never_0() -> None:
    made = pass_hat_estimate([Trials(2, 2), Trials(2, 1), Trials(2, 0), Trials(2, 1)], 1)
    assert made is not None and made.interval is not None
    assert (made.mean, made.stderr) == (0.5, pytest.approx(math.sqrt(0.5 / 3 / 4)))
    assert made.interval.low < 0.5 < made.interval.high
    none = pass_hat_estimate([Trials(4, 0)] * 9, 4)
    assert none is not None and none.interval is not None
    assert none.stderr == pytest.approx(1 / 9) and none.interval.high > 0.2
    assert pass_hat_estimate([Trials(4, 4), Trials(3, 3)], 4) is None
    alone = pass_hat_estimate([Trials(4, 2)], 2)
    assert alone is not None and alone.stderr is None and alone.interval is None


@pytest.mark.parametrize(("trials", "k"), [(Trials(4, 5), 1), (Trials(4, -1), 1), (Trials(4, 4), 0)])
def test_impossible_counts_are_refused(trials: Trials, k: int) -> None:
    with pytest.raises(ValueError):
        pass_hat(trials, k)


def verdict(reward: float | None, database: float | None = None) -> Verdict:
    return Verdict(reward=reward, components={**NOTHING, "DB": database}, reason="" if reward is None else None)


@given(st.permutations([("a", 1.0), ("a", 0.0), ("b", 1.0), ("b", 1.0), ("c", None)]))
def test_a_summary_ignores_order_and_what_was_not_judged(rows: list[tuple[str, float | None]]) -> None:
    found = summarize([Result(key=Key(task, 0), verdict=verdict(reward, reward)) for task, reward in rows])
    assert (found.n, found.n_scored, found.n_tasks) == (5, 4, 3)
    assert found.reward.mean == 0.75 and found.components["DB"].n == 4
    assert found.components["ACTION"] == Mean()
    assert found.pass_hat == {1: None, 2: None}


def test_the_standard_error_is_clustered_by_task() -> None:
    places = [(task, trial, reward) for task, reward in (("a", 1.0), ("b", 0.0)) for trial in range(10)]
    trials = [Result(key=Key(task, trial), verdict=verdict(reward)) for task, trial, reward in places]
    assert summarize(trials).reward.stderr == pytest.approx(0.5)


def test_pass_hat_is_over_what_was_planned() -> None:
    one = [Result(key=Key("a", 0), verdict=verdict(1.0))]
    assert list(summarize(one).pass_hat) == [1]
    assert summarize(one, task_ids=["a", "b"], trials=2).pass_hat == {1: None, 2: None}
