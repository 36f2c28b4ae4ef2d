"""The alarm: false at most once in twenty trajectories, whatever the items and however often it is looked at, and not deaf."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import measurement, vector
from scipy import stats

from harness.core.vector import ComponentRecord, RewardVector
from harness.reward_models.alarm import ALARM_ERROR, loss_bound, share
from harness.reward_models.evidence import Asked, HeldItems
from harness.reward_models.interval import stderr
from harness.reward_models.items import Floats, Items, Layout, items, layout
from harness.reward_models.paired import differences

STEPS, COMPONENTS, ALLOWED = 80, 3, 0.02
Random = np.random.Generator


def alone(n: int, per: int = 1) -> Layout:
    return layout([str(i) for i in range(n)], [str(i // per) for i in range(n)])


def lost(before: Floats | list[float], after: Floats | list[float], where: Layout | None = None) -> Items:
    where = where or alone(len(before))
    found = differences(items(where, after), items(where, before))
    assert isinstance(found, Items)
    return found


def test_the_shares_of_all_pairs_of_steps_are_the_whole_error() -> None:
    looks = 3000
    spent = math.fsum((look - 1) * share(look) for look in range(2, looks + 1))
    assert spent + 0.5 / looks == pytest.approx(1, abs=1e-9), "what is left for all later steps is 1/2 1/looks"


def heavy(rng: Random) -> Floats:
    """Log-probs of 64 pairs whose residuals are lognormal and add up."""
    return -3 + 0.02 * (np.exp(rng.normal(size=(64, STEPS))) - np.exp(0.5)).cumsum(axis=1)


def plain(rng: Random) -> Floats:
    return -3 + rng.normal(size=(64, 1)) + 0.1 * rng.normal(size=(64, STEPS))


def answers(rng: Random) -> Floats:
    """100 questions, a quarter of them right; the later steps lose ALLOWED of what the first has."""
    right = np.where(rng.random((100, STEPS)) < 0.6, rng.random((100, 1)) < 0.25, rng.random((100, STEPS)) < 0.25)
    right[:, 0] |= rng.random(100) < ALLOWED / 0.75
    return right.astype(np.float64)


NULLS: dict[str, Callable[[Random], Floats]] = {"heavy tails": heavy, "normal": plain, "answers": answers}


@pytest.mark.slow
@pytest.mark.parametrize("name", NULLS)
def test_false_alarms_come_in_at_most_a_twentieth_of_the_trajectories(name: str) -> None:
    """Every step but the first has lost exactly what is allowed; 80 steps of three components, looked at after each."""
    rng, n = np.random.default_rng(0), 60
    false = naive = 0
    for _ in range(n):
        alarms = []
        for _ in range(COMPONENTS):
            x = NULLS[name](rng)
            if name != "answers":
                x[:, 0] += ALLOWED
            where, means = alone(len(x)), x.mean(axis=0)
            for now in range(1, STEPS):
                best = int(means[:now].argmax())
                found = lost(x[:, best], x[:, now], where)
                bound = loss_bound(found, error=ALARM_ERROR / COMPONENTS * share(now + 1))
                t = (found.mean - ALLOWED) / (stderr(found) or math.inf)
                alarms.append((bound is not None and bound > ALLOWED, t > stats.norm.ppf(1 - ALARM_ERROR / STEPS)))
        false += any(alarm for alarm, _ in alarms)
        naive += any(alarm for _, alarm in alarms)
    assert false <= stats.binom.ppf(0.99, n, ALARM_ERROR)
    assert naive > n / 10, "a t test with the error spread over looks alone, and not over what they may compare with"


def test_a_loss_of_five_times_what_is_allowed_is_seen_at_once() -> None:
    rng, seen = np.random.default_rng(1), 0
    for _ in range(50):
        x = 0.1 * rng.normal(size=(128, 40)) + rng.normal(size=(128, 1))
        x[:, -1] -= 5 * ALLOWED
        best = int(x.mean(axis=0)[:-1].argmax())
        seen += (loss_bound(lost(x[:, best], x[:, -1]), error=ALARM_ERROR / COMPONENTS * share(40)) or 0) > ALLOWED
    assert seen >= 40


@pytest.mark.parametrize("outcomes", [(-1.0, 0.0, 1.0), (-1.0, 0.25, 1.0), (-1.0, 0.01, 0.01)])
@pytest.mark.parametrize("chances", [(0.3, 0.4, 0.3), (0.05, 0.9, 0.05), (0.1, 0.3, 0.6), (0.01, 0.59, 0.4)])
def test_the_bound_of_answers_is_exact_for_few_clusters(
    outcomes: tuple[float, ...], chances: tuple[float, ...]
) -> None:
    """Over every sample of eight tasks with its probability."""
    truth = float(np.dot(outcomes, chances))
    where = alone(8)
    for error in (0.2, 0.01):
        wrong = 0.0
        for drawn in itertools.combinations_with_replacement(range(3), 8):
            counts = np.bincount(drawn, minlength=3)
            d = np.array([outcomes[i] for i in drawn])
            found = Items(layout=where, values=d, unit_interval=np.array([True]), are_differences=True)
            if (np.isin(d, (-1, 0, 1)).sum() * 2 >= 8 or np.ptp(d) == 0) and (
                loss_bound(found, error=error) or -9
            ) > truth:
                wrong += float(stats.multinomial.pmf(counts, 8, chances))
        assert wrong <= error


@pytest.mark.slow
def test_the_bound_of_values_is_exact_for_symmetric_ones_however_heavy() -> None:
    """Over every choice of signs of magnitudes as of a Cauchy, each as likely."""
    size = np.tan(np.linspace(0.1, 1.5, 14))
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=14)))
    for error in (0.1, 0.01):
        wrong = sum(
            (loss_bound(Items(layout=alone(14), values=row, unit_interval=np.array([False])), error=error) or 0) > 0
            for row in signs * size
        )
        assert wrong / len(signs) <= error


@pytest.mark.parametrize("kind", ["values", "answers"])
def test_clusters_count_and_not_their_items(kind: str) -> None:
    rng = np.random.default_rng(2)
    before, after = (
        rng.normal(size=(2, 40)) if kind == "values" else (np.ones(40), (rng.random(40) < 0.2).astype(float))
    )
    once = loss_bound(lost(before, after), error=1e-3)
    again = loss_bound(lost(np.repeat(before, 4), np.repeat(after, 4), alone(160, per=4)), error=1e-3)
    assert once is not None and again == pytest.approx(once)


def test_a_group_weighs_its_members_as_its_value_does() -> None:
    ids = [f"{i}" for i in range(60)]
    where = layout(ids, ids, strata=[0] * 50 + [1] * 10, weights=[0.5, 0.5])
    x = np.ones(60)
    y = np.array([1.0] * 50 + [0.0] * 10)
    bound = loss_bound(lost(x, y, where), error=0.01)
    assert bound is not None and 0 < bound < 0.5, "half of the value is gone, not a sixth"
    assert bound > 60 / 10 * 0.5 * (loss_bound(lost(x, y), error=0.01) or 1) / 6


@given(st.lists(st.floats(-5, 5), min_size=30, max_size=60), st.randoms(use_true_random=False))
def test_the_order_of_items_does_not_matter(values: list[float], dice: object) -> None:
    d = np.array(values)
    shuffled = d[np.random.default_rng(len(values)).permutation(len(d))]
    one, other = loss_bound(lost(d, d * 0), error=0.01), loss_bound(lost(shuffled, shuffled * 0), error=0.01)
    assert (one is None and other is None) or one == pytest.approx(other, rel=1e-9, abs=1e-9)


def test_too_few_clusters_and_equal_values_say_nothing() -> None:
    rng = np.random.default_rng(3)
    assert loss_bound(lost(rng.normal(size=12), rng.normal(size=12)), error=1e-7) is None
    assert loss_bound(lost([-1.0] * 20, [-2.0] * 20), error=0.01) is None, "all equal, and without bounds"
    assert loss_bound(lost([-1.0, -2.0, -3.0], [-1.0, -2.0, -3.0]), error=0.01) == 0, "the same weights"
    assert (loss_bound(lost([1.0], [0.0]), error=0.01) or 0) < 0


def trajectory(
    rows: list[dict[str, Floats]],
    sources: dict[str, float | None],
    *,
    lower: bool = False,
    steps: list[int | None] | None = None,
) -> list[RewardVector]:
    known: dict[Asked, Items] = {}
    vectors: list[RewardVector] = []
    for index, row in enumerate(rows):
        step = 10 * index if steps is None else steps[index]
        found = {name: items(alone(len(x)), x) for name, x in row.items()}
        measured = {
            name: measurement(one.mean, n_items=len(one.values), n_scored=len(one.values), higher_is_better=not lower)
            for name, one in found.items()
        }
        vectors.append(
            vector(
                measured,
                step=step,
                history=vectors,
                sources=sources,
                evidence=HeldItems(current=found, known=dict(known)),
            )
        )
        known |= {Asked("a", step, name): one for name, one in found.items()}
    return vectors


def of(one: RewardVector, name: str) -> ComponentRecord:
    return next(c for c in one.components if c.name == name)


def rows_of(*shifts: float, n: int = 100) -> list[dict[str, Floats]]:
    rng = np.random.default_rng(5)
    hard = rng.normal(size=n) - 5
    return [{name: hard + shift + 0.01 * rng.normal(size=n) for name in ("prose", "code")} for shift in shifts]


def test_a_source_is_watched_against_its_best_step_and_a_target_is_not() -> None:
    vectors = trajectory(rows_of(0.0, 0.3, 0.2, 0.1, 0.31), {"prose": None})
    prose = [of(v, "prose") for v in vectors]
    assert [c.alarm for c in prose] == [None, False, True, True, False]
    assert [c.best_step for c in prose] == [None, 0, 10, 10, 10]
    assert [c.allowed_loss for c in prose] == [0.02] * 5
    assert prose[2].loss == pytest.approx(0.1, abs=0.005)
    assert prose[2].loss_bound is not None and 0.08 < prose[2].loss_bound < (prose[2].loss or 0)
    assert [[c.name for c in v.alarms] for v in vectors] == [[], [], ["prose"], ["prose"], []]
    code = [of(v, "code") for v in vectors]
    assert {(c.alarm, c.best_step, c.loss, c.loss_bound, c.allowed_loss) for c in code} == {(None,) * 5}


def test_what_is_allowed_is_the_components_own() -> None:
    vectors = trajectory(rows_of(0.0, -0.1), {"prose": 0.2, "code": 0.0})
    assert [c.alarm for c in vectors[1].components] == [False, True]
    assert [c.allowed_loss for c in vectors[1].components] == [0.2, 0.0]


def test_more_sources_share_the_error() -> None:
    one, two = (trajectory(rows_of(0.0, -0.1), dict.fromkeys(names)) for names in (["prose"], ["prose", "code"]))
    assert (of(one[1], "prose").loss_bound or 0) > (of(two[1], "prose").loss_bound or 0)


def test_where_lower_is_better_a_rise_is_the_loss() -> None:
    vectors = trajectory(rows_of(0.0, -0.1, 0.1), {"prose": None}, lower=True)
    assert [of(v, "prose").alarm for v in vectors] == [None, False, True]
    assert of(vectors[2], "prose").best_step == 10
    assert of(vectors[2], "prose").loss == pytest.approx(0.2, abs=0.005)


def test_a_step_without_a_number_is_neither_watched_nor_the_best() -> None:
    vectors = trajectory(rows_of(1.0, 0.0, 0.0), {"prose": None}, steps=[None, 0, 10])
    assert [of(v, "prose").best_step for v in vectors] == [None, None, 0]


def test_why_there_is_no_alarm_is_said() -> None:
    vectors = trajectory(rows_of(0.0, -5.0, n=2), {"prose": None, "code": None})
    assert [c.alarm for c in vectors[1].components] == [None, None]
    words = "no alarm for prose, code: too few clusters for so many looks, or equal items"
    assert words in vectors[1].warnings
