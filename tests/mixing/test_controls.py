"""Controls: what is shuffled keeps its gains, and an agent without feedback decides from mixtures alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from samples import vector

from harness import Feed
from harness.mixing.agent import Agent, Settings
from harness.mixing.controls import Blind, blind, shuffled
from harness.mixing.episodes import Episodes, episodes
from harness.reward_models.reference import fit_reference


@pytest.fixture(scope="module")
def data() -> Episodes:
    rng, made = np.random.default_rng(3), []
    for index in range(6):
        mine: list[Any] = []
        for step in range(index % 3 + 2):
            rho = dict(zip("ab", rng.dirichlet([1, 1]), strict=True))
            mine.append(vector({"code": rng.normal()}, step=step, trajectory=f"r{index}", history=mine, mixture=rho))
        made += mine
    return episodes(Feed(made), fit_reference(made))


def test_shuffled_gains_are_the_same_gains_elsewhere_each_with_its_error(data: Episodes) -> None:
    one = shuffled(data, seed=1)
    pairs = [sorted(zip(d.gains[d.mask], d.gains_standardized[d.mask], d.gain_stderr[d.mask], strict=True)) for d in (data, one)]  # fmt: skip
    assert pairs[0] == pairs[1] and (one.gains != data.gains).any()
    assert (
        (one.gains[~one.mask] == 0).all() and (one.states == data.states).all() and (one.actions == data.actions).all()
    )


def test_without_feedback_the_scores_change_nothing_and_the_mixtures_do(data: Episodes) -> None:
    seen = blind(data)
    assert (seen.states[..., 2:] == 0).all() and (seen.states[..., :2] == data.states[..., :2]).all()
    assert (seen.gains == data.gains).all()
    agent = Agent(data.domains, data.components, settings=Settings(width=16, heads=2, steps=4, warm_up_iterations=20))
    policy = Blind(agent=agent.warm_up(seen))
    matrix = data.states[2, :3].copy()
    other = matrix + np.array([0, 0, 5.0])
    assert (policy.next(matrix) == policy.next(other)).all()
    assert (agent.next(matrix) != agent.next(other)).any() and (matrix[:, 2:] != 0).any()
    assert (policy.next(matrix) != policy.next(matrix[:, [1, 0, 2]])).any()
