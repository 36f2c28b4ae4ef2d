"""Mixing as an environment: gymnasium's own check over both worlds, and that rewards are the feed's gains."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from proxies import SPACE, command, problem, trainer

gymnasium = pytest.importorskip("gymnasium", reason="gymnasium is not installed; pip install 'mixture-harness[mix]'")

from gymnasium.utils.env_checker import check_env  # noqa: E402

from harness import RewardEnvironment, read_feed  # noqa: E402
from harness.cli import run as cli  # noqa: E402
from harness.core.errors import DataError, SpecError  # noqa: E402
from harness.mixing.baselines import grid  # noqa: E402
from harness.mixing.env import MixingEnv  # noqa: E402
from harness.mixing.episodes import Episodes, episodes  # noqa: E402
from harness.mixing.worlds import Live, Simulator  # noqa: E402
from harness.reward_models.reference import fit_reference  # noqa: E402


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Episodes]:
    folder = tmp_path_factory.mktemp("proxies")
    problem(folder, number=5)
    assert cli(command(folder, folder / "out")) == 0
    feed = read_feed(folder / "out")
    reference = fit_reference(feed.vectors)
    return folder, reference, episodes(feed, reference, domains=SPACE.names)


@pytest.mark.filterwarnings("ignore:.*(Box observation space|Box action space|normali).*:UserWarning")
def test_gymnasium_accepts_it_over_a_live_trainer_and_over_a_simulator(collected: tuple[Path, Any, Episodes]) -> None:
    folder, reference, data = collected
    for world in (
        Live(trainer(folder), RewardEnvironment(folder / "spec.yaml"), reference),
        Simulator.of(data, noise=True),
    ):
        check_env(MixingEnv(world, steps=2), skip_render_check=True)


def test_live_rewards_are_the_gains_of_the_feed_it_leaves(collected: tuple[Path, Any, Episodes]) -> None:
    folder, reference, _ = collected
    environment = RewardEnvironment(folder / "spec.yaml")
    env = MixingEnv(Live(trainer(folder), environment, reference), steps=3)
    first, _ = env.reset(seed=5)
    assert (first[1:] == 0).all() and (first[0, :3] == 0).all() and first[0, 3:].any()
    rewards, errors, last, over = [], [], first, False
    for action in ([1.0, 0.0, 0.0], [0.2, 0.2, 0.1], [0.0, 0.0, 0.0]):
        last, reward, over, _, info = env.step(np.array(action))
        rewards.append(reward)
        errors.append(info["gain_stderr"])
    assert over and last[2, :3] == pytest.approx([0.4, 0.4, 0.2]) and last[3, :3] == pytest.approx([1 / 3] * 3)
    data = episodes(environment.feed, reference, domains=SPACE.names)
    assert rewards == pytest.approx(data.gains_standardized[0]) and errors == pytest.approx(data.gain_standardized_stderr[0])  # fmt: skip
    assert env.history() == pytest.approx(data.states[0], abs=1e-6)
    with pytest.raises(SpecError, match="call reset"):
        env.step(np.ones(3))


def test_a_live_environment_that_is_begun_again_leaves_what_was_there(
    collected: tuple[Path, Any, Episodes], tmp_path: Path
) -> None:
    folder, reference, _ = collected
    for steps, names in ((2, ["env-0001"]), (1, ["env-0001", "env-0002"])):
        environment = RewardEnvironment(folder / "spec.yaml", out=tmp_path)
        env = MixingEnv(Live(trainer(folder), environment, reference), steps=steps)
        env.reset(seed=steps)
        rewards = [env.step([0.1, 0.2, 0.7])[1] for _ in range(steps)]
        feed = read_feed(tmp_path)
        assert feed.trajectories == names
        assert episodes(feed.trajectory(names[-1]), reference, domains=SPACE.names).gains_standardized[0] == pytest.approx(rewards)  # fmt: skip
    assert len(read_feed(tmp_path).trajectory("env-0001")) == 3


def test_a_simulator_finds_the_mixture_that_gains_where_the_answer_is_known() -> None:
    rng = np.random.default_rng(0)
    data = linear(rng.dirichlet(np.ones(2), (40, 4)))
    env = MixingEnv(Simulator.of(data), steps=4)
    ends = {}
    for policy in grid(2, parts=4):
        env.reset(seed=1)
        rewards = [env.step(policy.next(env.history()))[1] for _ in range(4)]
        ends[float(policy.rho[1])] = math.fsum(rewards)
    assert max(ends, key=ends.__getitem__) == 1.0
    assert ends[1.0] == pytest.approx(4 * 0.5, rel=1e-3) and ends[0.0] == pytest.approx(-4 * 0.5, rel=1e-3)


def linear(actions: Any) -> Episodes:
    """z moves by the second share less the first, halved."""
    b, t, n = actions.shape
    gains = (actions[..., 1] - actions[..., 0]) / 2
    z = np.concatenate([np.zeros((b, 1)), gains.cumsum(1)], axis=1)
    rho = np.concatenate([np.zeros((b, 1, n)), actions], axis=1)
    known = np.ones((b, t), dtype=bool)
    return Episodes(
        domains=("a", "b"), components=("code",), weights=np.ones(1), names=tuple(f"r{i}" for i in range(b)),
        states=np.concatenate([rho, z[..., None]], axis=2), lengths=np.full(b, t), mask=known, actions=actions, gains=gains, tokens=np.ones((b, t)),
        gains_standardized=gains, gain_stderr=np.ones((b, t)), gain_standardized_stderr=np.ones((b, t)), error_known=known,
        filled=np.zeros((b, t + 1, n + 1), dtype=bool), left_out=(),
    )  # fmt: skip


@pytest.mark.parametrize("action", [[0.5, 0.5], [0.5, -0.1, 0.5], [float("nan"), 1.0, 0.0]])
def test_what_is_no_mixture_is_refused(action: list[float], collected: tuple[Path, Any, Episodes]) -> None:
    env = MixingEnv(Simulator.of(collected[2]), steps=2)
    env.reset(seed=0)
    with pytest.raises(SpecError, match="3 finite shares"):
        env.step(np.array(action))


def test_a_simulator_without_enough_to_fit_on_is_refused(collected: tuple[Path, Any, Episodes]) -> None:
    with pytest.raises(DataError, match=r"takes 12 transitions; the feed has 3"):
        Simulator.of(collected[2].only([0]))
