"""Collecting feedback: one feed whatever was killed and however many work at it, and trainers that go on bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from proxies import SPACE, command, problem, trainer

from harness import read_feed
from harness.cli import run as cli
from harness.core.errors import DataError, SpecError, StateError
from harness.mixing.baselines import uniform
from harness.mixing.collect import collect
from harness.mixing.episodes import episodes
from harness.mixing.steer import Trajectory
from harness.mixing.tokens import Windows
from harness.mixing.trainer import Recipe, TokenTrainer
from harness.reward_models.reference import fit_reference
from harness.spec.spec import load_spec

CLOCK = ("started", "seconds")
"""Of a vector, all that a second run may say differently."""


def lines(out: Path) -> list[str]:
    """The feed, byte for byte but for the clock."""
    found = []
    for line in (out / "rewards.jsonl").read_text().splitlines():
        value = json.loads(line)
        for key in CLOCK:
            del value["provenance"][key]
        found.append(json.dumps(value))
    return found


def program(folder: Path, out: Path, **more: Any) -> subprocess.Popen[bytes]:
    code = "from harness.cli import main; main()"
    return subprocess.Popen([sys.executable, "-c", code, *command(folder, out, **more)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # fmt: skip


def n_lines(out: Path) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in out.glob("parts/*/run/rewards.jsonl"))


def test_the_feed_has_every_step_of_every_plan_and_an_agent_can_learn_from_it(tmp_path: Path) -> None:
    problem(tmp_path)
    assert cli(command(tmp_path, tmp_path / "out")) == 0
    feed = read_feed(tmp_path / "out")
    assert feed.trajectories == ["k1-000", "k10-000", "k1-001"] and len(feed) == 12
    assert [v.checkpoint.tokens_seen for v in feed.trajectory("k1-001")] == [0, 64, 128, 192]
    assert len({v.checkpoint.fingerprint for v in feed}) == 1 + 9, "one base, and each step other weights"
    data = episodes(feed, fit_reference(feed.vectors), domains=SPACE.names)
    assert data.mask.all() and data.error_known.all() and not data.left_out
    again = lines(tmp_path / "out")
    assert cli(command(tmp_path, tmp_path / "out")) == 0 and lines(tmp_path / "out") == again
    assert cli(["mix", "fit", str(tmp_path / "out"), "-o", str(tmp_path / "agent"), "--width", "8", "--iterations", "2"]) == 0  # fmt: skip


def test_processes_side_by_side_give_the_same_feed_as_one(tmp_path: Path) -> None:
    problem(tmp_path, steps=2)
    assert cli(command(tmp_path, tmp_path / "one")) == 0
    assert cli(command(tmp_path, tmp_path / "two", processes=2)) == 0
    assert lines(tmp_path / "one") == lines(tmp_path / "two")


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_feed(tmp_path: Path) -> None:
    problem(tmp_path, steps=4)
    assert cli(command(tmp_path, tmp_path / "whole")) == 0
    out, seen = tmp_path / "killed", []
    for wanted in (1, 4, 6, 9):
        running = program(tmp_path, out, processes=2)
        while n_lines(out) < wanted and running.poll() is None:
            time.sleep(0.01)
        assert running.poll() is None, "it was to be killed before its end"
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        seen.append(n_lines(out))
    assert program(tmp_path, out, processes=2).wait() == 0
    assert seen == sorted(seen) and seen[-1] < len(lines(out)), "feedback is appended after each step, and stays"
    assert lines(out) == lines(tmp_path / "whole")


def test_more_trajectories_go_on_with_those_that_are_there_and_others_are_refused(tmp_path: Path) -> None:
    problem(tmp_path, steps=2, number=1)
    assert cli(command(tmp_path, tmp_path / "out")) == 0
    first = lines(tmp_path / "out")
    problem(tmp_path, steps=2, number=2)
    assert cli(command(tmp_path, tmp_path / "out")) == 0
    assert lines(tmp_path / "out")[: len(first)] == first and len(lines(tmp_path / "out")) == 2 * len(first)
    one = Trajectory(name="k1-000", policy=uniform(SPACE), steps=2, seed=0)
    recipe = Recipe(
        tokens={name: str(tmp_path / f"{name}.npy") for name in SPACE.names}, bases=[str(tmp_path / "base")], length=16
    )
    with pytest.raises(StateError, match="what differs: start, policy, rho, recipe"):
        collect([one], recipe=recipe, spec=load_spec(tmp_path / "spec.yaml"), out=tmp_path / "out")
    with pytest.raises(SpecError, match="each its own"):
        collect([one, one], recipe=recipe, spec=load_spec(tmp_path / "spec.yaml"), out=tmp_path / "x")


def weights(one: TokenTrainer) -> list[torch.Tensor]:
    return [value.clone() for value in one.model.state_dict().values()]


def test_a_trainer_goes_on_from_its_state_bit_for_bit_and_forgets_what_it_trained_before(tmp_path: Path) -> None:
    problem(tmp_path)
    rho = np.array([0.5, 0.3, 0.2])
    one, two = trainer(tmp_path), trainer(tmp_path)
    one.reset(3)
    one.step(rho)
    kept = one.state()
    assert one.step(rho[::-1]) == 128
    two.reset(99)
    two.step(rho)
    two.resume(kept)
    assert two.step(rho[::-1]) == 128
    assert all(map(torch.equal, weights(one), weights(two)))
    two.reset(3)
    assert not all(map(torch.equal, weights(one), weights(two))), "the base, not what came of it"
    two.step(rho)
    two.step(rho[::-1])
    assert all(map(torch.equal, weights(one), weights(two)))
    two.reset(4)
    two.step(rho)
    two.step(rho[::-1])
    assert not all(map(torch.equal, weights(one), weights(two))), "another seed, another order of the data"


@pytest.mark.parametrize("rho", [[0.5, 0.5], [0.5, 0.6, 0.1], [1.2, -0.2, 0.0], [float("nan"), 0.5, 0.5]])
def test_what_is_no_mixture_is_refused_before_training(rho: list[float], tmp_path: Path) -> None:
    problem(tmp_path)
    one = trainer(tmp_path)
    one.reset(0)
    with pytest.raises(DataError, match=r"3 shares \(web, code, noise\)"):
        one.step(np.array(rho))


def test_windows_are_read_once_before_any_is_read_again_and_shares_are_kept(tmp_path: Path) -> None:
    problem(tmp_path)
    windows = Windows({name: str(tmp_path / f"{name}.npy") for name in SPACE.names}, length=16)
    windows.reset(0)
    first = np.concatenate([windows.take(np.array([1.0, 0.0, 0.0]), 14, step=t, vocabulary=404) for t in range(4)])
    assert windows.sizes() == [56, 56, 56] and windows.taken == [56, 0, 0]
    assert len(np.unique(first, axis=0)) == 56
    again = windows.take(np.array([1.0, 0.0, 0.0]), 56, step=9, vocabulary=404)
    assert sorted(again.tolist()) == sorted(first.tolist()) and again.tolist() != first.tolist()
    windows.reset(0)
    for t in range(300):
        found = windows.take(np.array([0.55, 0.05, 0.4]), 8, step=t, vocabulary=404)
        assert abs((found < 50).all(1).sum() - 4.4) < 1
    assert np.array(windows.taken) / 2400 == pytest.approx([0.55, 0.05, 0.4], abs=0.01)


def test_token_files_that_are_none_are_refused_by_name(tmp_path: Path) -> None:
    problem(tmp_path)
    np.save(tmp_path / "square.npy", np.zeros((3, 3), np.int64))
    np.save(tmp_path / "real.npy", np.zeros(300))
    np.save(tmp_path / "short.npy", np.zeros(3, np.int64))
    np.save(tmp_path / "high.npy", np.full(300, 404))
    (tmp_path / "text.txt").write_text("no tokens")
    for name, words in (
        ("square.npy", "shape"),
        ("real.npy", "float64"),
        ("short.npy", "3 tokens"),
        ("text.txt", "no token file"),
    ):
        with pytest.raises(DataError, match=words):
            Windows({"a": str(tmp_path / name)}, length=16)
    windows = Windows({"a": str(tmp_path / "high.npy")}, length=16)
    with pytest.raises(DataError, match=r"high.npy has token ids beyond the model's 404"):
        windows.take(np.ones(1), 2, step=0, vocabulary=404)
