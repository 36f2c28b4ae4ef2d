"""Baselines: that each is what it is called, and that it finds what arithmetic says it must."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from samples import vector

from harness import Feed
from harness.core.errors import DataError, SpecError
from harness.mixing.baselines import (
    Bandit,
    best_mixture,
    fit_regression,
    grid,
    regmix,
    start,
    target_only,
    uniform,
)
from harness.mixing.domains import Domains
from harness.mixing.episodes import episodes
from harness.reward_models.reference import fit_reference

SPACE = Domains(sources=["a", "b"], targets=["c"])
PENALTIES = (1e-6, 1e-3, 1.0)


def score(rho: Any) -> Any:
    """Best at (0.5, 0.3, 0.2)."""
    return -((np.asarray(rho) - [0.5, 0.3, 0.2]) ** 2).sum(-1)


def test_fixed_mixtures_are_fixed() -> None:
    nothing = np.empty((0, 4))
    assert uniform(SPACE).next(nothing) == pytest.approx([1 / 3] * 3)
    assert start(SPACE).next(nothing).tolist() == [0.5, 0.5, 0] and target_only(SPACE).next(nothing).tolist() == [
        0,
        0,
        1,
    ]


def test_a_grid_has_every_mixture_once() -> None:
    made = [tuple(one.rho.tolist()) for one in grid(3, parts=4)]
    assert len(made) == len(set(made)) == 15 and all(sum(one) == 1 for one in made)
    assert (0.25, 0.5, 0.25) in made and (0, 0, 1) in made
    assert [one.rho.tolist() for one in grid(1, parts=3)] == [[1.0]]
    with pytest.raises(SpecError):
        grid(2, parts=0)


def test_a_regression_finds_the_best_mixture_of_a_known_surface() -> None:
    x = np.random.default_rng(0).dirichlet(np.ones(3), 40)
    fitted = fit_regression(x, score(x), penalties=PENALTIES)
    assert fitted.error < 1e-3
    assert best_mixture(fitted, 3, candidates=5_000, top=20).rho == pytest.approx([0.5, 0.3, 0.2], abs=0.05)
    with pytest.raises(SpecError):
        best_mixture(fitted, 3, candidates=10, top=11)


def test_its_leave_one_out_error_is_that_of_leaving_one_out() -> None:
    rng = np.random.default_rng(1)
    x = rng.dirichlet(np.ones(3), 12)
    y = score(x) + 0.1 * rng.normal(size=12)
    fitted = fit_regression(x, y, penalties=(0.1,))
    left = []
    for i in range(12):
        rest = np.arange(12) != i
        features = np.concatenate([x, np.log1p(50 * x) / np.log(51)], axis=1)
        if fitted.curve == "products":
            features = np.concatenate([x, *(x[:, [a]] * x[:, [b]] for a in range(3) for b in range(a, 3))], axis=1)
        centre = features[rest].mean(0)
        f = features - centre
        w = np.linalg.solve(
            f[rest].T @ f[rest] + 0.1 * np.eye(features.shape[1]), f[rest].T @ (y[rest] - y[rest].mean())
        )
        left.append(y[i] - y[rest].mean() - f[i] @ w)
    assert fitted.error == pytest.approx(np.sqrt(np.mean(np.square(left))), rel=1e-6)


def runs(number: int, *, broken: int = 0) -> Feed:
    """Each run trained on one mixture throughout; what it gained in all is the score."""
    made: list[Any] = []
    for index in range(number):
        rho = np.random.default_rng(index).dirichlet(np.ones(3))
        mine: list[Any] = []
        for step, raw in enumerate([-5.0, None if index < broken else -4.0 + score(rho), -3.0 + score(rho)]):
            mine.append(vector({"code": raw}, step=step, trajectory=f"r{index}", history=mine, mixture=dict(zip("abc", rho, strict=True))))  # fmt: skip
        made += mine
    return Feed(made)


def test_regmix_takes_a_row_per_complete_run() -> None:
    feed = runs(30, broken=2)
    fitted = regmix(episodes(feed, fit_reference(list(feed))), penalties=PENALTIES)
    assert best_mixture(fitted, 3, candidates=5_000, top=20).rho == pytest.approx([0.5, 0.3, 0.2], abs=0.05)
    with pytest.raises(DataError, match="takes 3 runs with a gain at every step; there are 2"):
        regmix(episodes(runs(4, broken=2)))


def walks(number: int, tokens: Sequence[int] = range(0, 700, 100)) -> Feed:
    """Runs whose mixture changes at random, whose domains bring ever less and are half forgotten at each step."""
    made: list[Any] = []
    rng = np.random.default_rng(3)
    for index in range(number):
        mine: list[Any] = []
        kept = np.zeros(3)
        for step, seen in enumerate(tokens):
            rho = rng.dirichlet(np.ones(3))
            kept = 0.5 * kept + (np.log1p(rho / 0.02) if step else 0.0)
            raw = -6 + float([0.6, 0.3, 0.1] @ kept) + 0.02 * rng.normal()
            one = vector({"code": raw}, step=step, trajectory=f"w{index}", history=mine, mixture=dict(zip("abc", rho, strict=True)))  # fmt: skip
            mine.append(one.model_copy(update={"checkpoint": one.checkpoint.model_copy(update={"tokens_seen": seen})}))
        made += mine
    return Feed(made)


def test_regmix_finds_the_best_mixture_from_walks_that_end_far_from_it() -> None:
    fitted = regmix(episodes(walks(64)), standardized=False)
    assert fitted.decay == 0.4 and fitted.curve == "logarithms"
    found, best = best_mixture(fitted, 3).rho, np.array([0.6, 0.3, 0.1])
    short = [0.6, 0.3, 0.1] @ (np.log1p(best / 0.02) - np.log1p(found / 0.02))
    assert short < 0.1, "a fit of products of mean mixtures ends in a corner, 0.7 short"


def test_regmix_weighs_steps_by_their_tokens() -> None:
    data = episodes(walks(40, [0, 100, 110, 10_000]))
    assert data.tokens[0].tolist() == [100, 10, 9_890]
    fitted = regmix(data, standardized=False)
    counted = data.tokens * fitted.decay ** (np.array([9_900, 9_890, 0]) / (10_000 / 3))
    mixtures = np.einsum("bt,btn->bn", counted / counted.sum(1, keepdims=True), data.actions)
    expected = fit_regression(mixtures, data.gains.sum(1), beside=data.states[:, 0, 3:])
    assert fitted.coefficients == pytest.approx(expected.coefficients)


def test_regmix_is_not_led_astray_by_what_runs_start_from() -> None:
    rng = np.random.default_rng(0)
    x, starts = rng.dirichlet(np.ones(3), 40), rng.normal(size=(40, 1))
    fitted = fit_regression(x, score(x) - 2 * starts[:, 0], beside=starts)
    assert best_mixture(fitted, 3, candidates=5_000, top=20).rho == pytest.approx([0.5, 0.3, 0.2], abs=0.05)
    assert fitted.predict(x) == pytest.approx(score(x) - 2 * starts.mean(), abs=0.03), "from an average start"
    assert fitted.error < 0.01 < fit_regression(x, score(x) - 2 * starts[:, 0]).error


def test_steps_of_a_trajectory_that_does_not_say_its_tokens_count_alike() -> None:
    unknown = episodes(Feed([one.model_copy(update={"checkpoint": one.checkpoint.model_copy(update={"tokens_seen": None})}) for one in walks(4)]))  # fmt: skip
    assert (unknown.tokens == 1).all()


@pytest.mark.parametrize("wrong", [{"n": 0}, {"rate": float("nan")}, {"floor": 2.0}, {"spread": 0.0}, {"seed": -1}])
def test_a_bandit_that_cannot_play_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="a bandit takes"):
        Bandit(**{"n": 3, **wrong})


def test_a_bandit_refuses_an_array_of_another_problem() -> None:
    for shape in ((2, 3), (0, 4)):
        with pytest.raises(DataError, match="for 3 domains"):
            Bandit(n=3).next(np.zeros(shape))


def play(bandit: Bandit, gains: Any, steps: int = 60) -> Any:
    """The policy after `steps` in a world whose gain is linear in the mixture."""
    rows = [[1 / 3] * 3 + [0.0]]
    for _ in range(steps):
        rho = bandit.next(np.array(rows))
        assert rho.sum() == pytest.approx(1)
        rows.append([*rho, rows[-1][-1] + float(rho @ gains)])
    return bandit.policy(np.array(rows))


def test_a_bandit_finds_the_domain_that_gains_and_is_deterministic() -> None:
    bandit = Bandit(n=3, rate=10.0)
    found = play(bandit, [0.0, 1.0, 0.0])
    assert found.argmax() == 1 and found[1] > 0.6 and found.min() >= 0.1 / 3 - 1e-9
    assert (play(bandit, [0.0, 1.0, 0.0]) == found).all()
    assert bandit.policy(np.array([[1, 0, 0, 0.5]])) == pytest.approx([1 / 3] * 3), "one step tells nothing"
    with pytest.raises(DataError, match="NaN"):
        bandit.next(np.array([[1.0, 0, 0, np.nan]]))
