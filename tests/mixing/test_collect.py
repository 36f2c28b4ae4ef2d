"""Collecting feedback: one feed whatever was killed and however many work at it, and trainers that go on bit for bit."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from proxies import SPACE, Deadly, Kept, along, command, lines, problem, trainer

from harness import read_feed
from harness.cli import run as cli
from harness.core.errors import CheckpointError, DataError, EngineError, SpecError, StateError
from harness.engines.scoring.products import VARIABLE, has_onednn
from harness.mixing.agent import Agent, Settings
from harness.mixing.baselines import Bandit, uniform
from harness.mixing.collect import collect
from harness.mixing.controls import Blind
from harness.mixing.episodes import episodes
from harness.mixing.identity import policy_card
from harness.mixing.steer import Trajectory
from harness.mixing.tokens import Windows
from harness.mixing.trainer import Recipe, TokenTrainer
from harness.reward_models.reference import fit_reference
from harness.spec.spec import load_spec


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
    assert cli(command(tmp_path, tmp_path / "two", workers=2)) == 0
    assert lines(tmp_path / "one") == lines(tmp_path / "two")


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_feed(tmp_path: Path) -> None:
    problem(tmp_path, steps=4)
    assert cli(command(tmp_path, tmp_path / "whole")) == 0
    out, seen = tmp_path / "killed", []
    for wanted in (1, 6):
        running = program(tmp_path, out, workers=2)
        while n_lines(out) < wanted and running.poll() is None:
            time.sleep(0.01)
        assert running.poll() is None, "it was to be killed before its end"
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        seen.append(n_lines(out))
    assert program(tmp_path, out, workers=2).wait() == 0
    assert seen == sorted(seen) and seen[-1] < len(lines(out)), "feedback is appended after each step, and stays"
    assert lines(out) == lines(tmp_path / "whole")


@pytest.mark.long
def test_a_worker_that_is_killed_costs_the_step_in_hand(tmp_path: Path) -> None:
    problem(tmp_path)
    log, given = tmp_path / "log", along(tmp_path, Kept(tmp_path / "log"), names=("a",), steps=5)
    collect(**given, out=tmp_path / "whole")
    assert log.read_text().split() == ["1", "2", "3", "4", "5"]
    log.unlink()
    killed: list[int] = []

    def kill() -> None:
        while len(killed) < 3:
            if n_lines(tmp_path / "out") >= len(killed) + 2 and (found := tiny.workers_of(tmp_path / "out")):
                killed.append(found[0])
                os.kill(found[0], signal.SIGKILL)
                while found[0] in tiny.workers_of(tmp_path / "out"):
                    time.sleep(0.01)
            time.sleep(0.005)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    collect(**given, out=tmp_path / "out", workers=1)
    thread.join(10)
    asked = [int(line) for line in log.read_text().split()]
    assert len(set(killed)) == 3 and asked == sorted(asked), "no step is gone back to"
    assert 5 <= len(asked) <= 8, "the one in hand is done again, and no other"
    assert lines(tmp_path / "out") == lines(tmp_path / "whole")


@pytest.mark.slow
def test_deaths_count_against_a_step_and_not_against_a_long_trajectory(tmp_path: Path) -> None:
    problem(tmp_path)
    (tmp_path / "marks").mkdir()
    collect(**along(tmp_path, Deadly(None), names=("a",)), out=tmp_path / "whole")
    collect(**along(tmp_path, Deadly(tmp_path / "marks"), names=("a",)), out=tmp_path / "out", workers=1)
    assert len(list((tmp_path / "marks").iterdir())) == 4, "four workers died of it, of a step each"
    assert lines(tmp_path / "out") == lines(tmp_path / "whole")
    deadly = along(tmp_path, Deadly(tmp_path / "marks", always=3), names=("a",))
    with pytest.raises(EngineError, match=r"trajectory a: its worker died 3 times \(the last by exit code 7\)"):
        collect(**deadly, out=tmp_path / "never", workers=1)
    assert not tiny.workers_of(tmp_path / "never") and not (tmp_path / "never" / "rewards.jsonl").exists()


@pytest.mark.slow
def test_what_happens_in_a_worker_is_said_as_it_is(tmp_path: Path) -> None:
    problem(tmp_path)

    class Here:
        def next(self, matrix: Any) -> Any:
            return np.ones(3)

    with pytest.raises(SpecError, match="a policy, cannot be sent to a worker"):
        collect(**along(tmp_path, Here()), out=tmp_path / "out", workers=2)
    given = along(tmp_path, Kept(tmp_path / "no folder" / "log"))
    for workers in (None, 2):
        with pytest.raises(EngineError, match=r"trajectory [ab]: unexpected FileNotFoundError"):
            collect(**given, out=tmp_path / "log", workers=workers)
    np.save(tmp_path / "web.npy", np.full(900, 70_000))
    for workers in (None, 2):
        with pytest.raises(DataError, match=r"web.npy has token ids beyond the model's"):
            collect(**along(tmp_path, uniform(SPACE)), out=tmp_path / "ids", workers=workers)


@pytest.mark.skipif(not has_onednn(), reason="this torch has no oneDNN")
def test_all_trajectories_multiply_by_the_library_that_the_first_one_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem(tmp_path)
    for number, library in ((1, "onednn"), (2, "blas")):
        monkeypatch.setenv(VARIABLE, library)
        collect(**along(tmp_path, uniform(SPACE), names=("a",), steps=1), out=tmp_path / str(number))
    monkeypatch.delenv(VARIABLE)
    for number, library in ((1, "onednn"), (2, "blas")):
        feed = collect(**along(tmp_path, uniform(SPACE), steps=1), out=tmp_path / str(number))
        assert {vector.provenance.products for vector in feed} == {library}
    begun = along(tmp_path, Kept(tmp_path / "later" / "log"), names=("a", "c"), steps=1)
    begun["trajectories"][0] = along(tmp_path, uniform(SPACE), steps=1)["trajectories"][0]
    with pytest.raises(EngineError, match="trajectory c: unexpected FileNotFoundError"):
        monkeypatch.setenv(VARIABLE, "blas")
        collect(**{**begun, "trajectories": begun["trajectories"][1:]}, out=tmp_path / "1")
    monkeypatch.delenv(VARIABLE)
    (tmp_path / "later").mkdir()
    feed = collect(**begun, out=tmp_path / "1").trajectory("c")
    assert [vector.provenance.products for vector in feed] == ["blas", "blas"], "one that had begun with another"


def test_a_folder_goes_on_with_the_same_content_and_with_no_other(tmp_path: Path) -> None:
    problem(tmp_path)
    given = along(tmp_path, uniform(SPACE), names=("a",), steps=1)
    collect(**given, out=tmp_path / "out")
    before = lines(tmp_path / "out")
    shutil.copytree(tmp_path / "base", tmp_path / "moved")
    shutil.copy(tmp_path / "web.npy", tmp_path / "moved.npy")
    recipe: Recipe = given["recipe"]
    moved = recipe.model_copy(update={"bases": [str(tmp_path / "moved")], "tokens": {**recipe.tokens, "web": str(tmp_path / "moved.npy")}})  # fmt: skip
    collect(**{**given, "recipe": moved}, out=tmp_path / "out")
    assert lines(tmp_path / "out") == before, "the same files, elsewhere"
    with pytest.raises(StateError, match="what differs: threads"):
        collect(**given, out=tmp_path / "out", threads=2)
    long = recipe.model_copy(update={"length": 5_000})
    with pytest.raises(DataError, match="a window takes 5000"):
        collect(**{**given, "recipe": long}, out=tmp_path / "new")
    collect(**given, out=tmp_path / "new")
    assert lines(tmp_path / "new") == before, "what was measured nothing of is nobody's"
    ids = np.load(tmp_path / "web.npy")
    np.save(tmp_path / "web.npy", np.where(np.arange(len(ids)) == 450, ids + 1, ids))
    with pytest.raises(StateError, match="what differs: recipe"):
        collect(**given, out=tmp_path / "out")
    tiny.save(tmp_path / "moved", tiny.llama(5))
    with pytest.raises(StateError, match="what differs: recipe"):
        collect(**{**given, "recipe": moved}, out=tmp_path / "out")


def test_policies_that_would_choose_otherwise_have_other_cards(tmp_path: Path) -> None:
    small = Settings(width=8, heads=2, steps=3)
    one, other = (Agent(["a", "b"], ["x"], settings=small.model_copy(update={"seed": seed})) for seed in (0, 1))
    other.card = one.card
    assert policy_card(one) != policy_card(other), "weights differ, cards do not"
    assert policy_card(Blind(agent=one)) != policy_card(Blind(agent=other))
    assert policy_card(Bandit(n=3, seed=1)) != policy_card(Bandit(n=3, seed=2))
    assert policy_card(Bandit(n=3)) == policy_card(Bandit(n=3))


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
    with pytest.raises(StateError, match="what differs: start, policy, recipe"):
        collect([one], recipe=recipe, spec=load_spec(tmp_path / "spec.yaml"), out=tmp_path / "out")
    with pytest.raises(SpecError, match="each its own"):
        collect([one, one], recipe=recipe, spec=load_spec(tmp_path / "spec.yaml"), out=tmp_path / "x")


@pytest.mark.parametrize("option", [("rate", "nan"), ("rate", "-1"), ("workers", "0"), ("worker-gpus", "1")])
def test_an_option_that_cannot_be_is_said_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, str]
) -> None:
    problem(tmp_path)
    assert cli(command(tmp_path, tmp_path / "out", **{option[0]: option[1]})) == SpecError.exit_code
    assert option[0] in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("no such folder", "no config.json in .*: a base is a model folder on this machine"),
        ("pytorch_model.bin", "weights of .* are in pytorch_model.bin and not in model.safetensors"),
        ("tf_model.h5", "weights of .* are in tf_model.h5 and not in model.safetensors"),
        ("adapter_model.safetensors", "weights of .* are in adapter_model.safetensors and not in model.safetensors"),
        ("model.gguf", "weights of .* would not be read: it holds a GGUF file"),
        ("adapter_config.json", "other is an adapter, and a base is a whole model; merge it"),
        ("model.safetensors.index.json", "lacks the shard model-00001-of-00002.safetensors"),
        ("cut", "model.safetensors is truncated"),
        ("config.json", "cannot read .*config.json"),
    ],
)
def test_a_base_that_would_be_looked_for_elsewhere_or_drawn_anew_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str, words: str
) -> None:
    problem(tmp_path)
    bases = [tmp_path / "base", tmp_path / "other"]
    if wrong != "no such folder":
        shutil.copytree(bases[0], bases[1])
        whole = bases[1] / "model.safetensors"
        content = whole.read_bytes()
        if wrong == "cut":
            whole.write_bytes(content[:-100])
        else:
            index = {"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
            (bases[1] / wrong).write_text(json.dumps(index) if "index" in wrong else "{")
            whole.unlink()
    assert cli(command(tmp_path, tmp_path / "out", base=bases[1])) == CheckpointError.exit_code
    assert re.search(words, capsys.readouterr().err) and not list(tmp_path.glob("out/parts/k*"))
    files = {name: str(tmp_path / f"{name}.npy") for name in SPACE.names}
    with pytest.raises(CheckpointError, match=words):
        TokenTrainer(Recipe(tokens=files, bases=[str(one) for one in bases], length=16))


def test_a_base_in_shards_and_in_half_precision_starts_as_the_same_base_in_one_file(tmp_path: Path) -> None:
    problem(tmp_path)
    model = tiny.llama(1)
    kinds = {"whole": {}, "shards": {"max_shard_size": "50KB"}}
    started = []
    for name, options in kinds.items():
        model.to(torch.bfloat16).save_pretrained(tmp_path / name, **options)
        tiny.tokenizer().save_pretrained(tmp_path / name)
        files = {domain: str(tmp_path / f"{domain}.npy") for domain in SPACE.names}
        one = TokenTrainer(Recipe(tokens=files, bases=[str(tmp_path / name)], length=16, rows=2, updates=2))
        one.reset(0)
        started.append(weights(one))
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert all(map(torch.equal, *started)) and started[0][0].dtype == torch.float32
    saved = [value.float() for value in model.state_dict().values()]
    assert all(map(torch.equal, started[0], saved)), "not drawn anew"


@pytest.mark.parametrize("name", ["a/b", "..", ".a", "a\0b", "\ud800", "x" * 256])
def test_a_name_that_no_folder_can_have_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    problem(tmp_path)
    with pytest.raises(SpecError, match="names a folder here, and cannot"):
        collect(**along(tmp_path, uniform(SPACE), names=(name,)), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_part_whose_run_was_removed_is_trained_from_the_start_and_one_that_was_damaged_is_named(
    tmp_path: Path,
) -> None:
    problem(tmp_path)
    given = along(tmp_path, uniform(SPACE), names=("a",), steps=2)
    collect(**given, out=tmp_path / "out")
    before, part = lines(tmp_path / "out"), tmp_path / "out" / "parts" / "a"
    shutil.rmtree(part / "run")
    (part / "state").write_bytes(b'{"step": 1, "tokens_seen": 64, "rho": [1, 0, 0]}\n')
    collect(**given, out=tmp_path / "out")
    assert lines(tmp_path / "out") == before
    for path, content in ((part / "run" / "run.json", "{"), (part / "card.json", "{"), (part / "card.json", "[]")):
        kept = path.read_bytes()
        path.write_text(content)
        with pytest.raises(StateError, match=f"{path}|holds another trajectory"):
            collect(**given, out=tmp_path / "out")
        path.write_bytes(kept)


def test_trajectories_that_are_finished_are_of_the_same_spec_as_those_to_come(tmp_path: Path) -> None:
    problem(tmp_path)
    given = along(tmp_path, uniform(SPACE), names=("a",), steps=1)
    collect(**given, out=tmp_path / "out")
    for path in (tmp_path / "out").glob("*.json*"):  # as a kill before the end leaves it
        path.unlink()
    (tmp_path / "spec.yaml").write_text("components:\n  - {name: a, kind: logprob, field: a.jsonl}\n")
    with pytest.raises(StateError, match="holds a run of another spec; what differs: component b"):
        collect(**along(tmp_path, uniform(SPACE), steps=1), out=tmp_path / "out")
    assert not (tmp_path / "out" / "parts" / "b" / "run").exists()


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
    np.savez(tmp_path / "archive.npz", a=np.zeros(300, np.int64))
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    np.save(tmp_path / "empty.npy", np.zeros(0, np.int64))
    (tmp_path / "odd.bin").write_bytes(b"\1\0\2")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "high.npy").read_bytes()[:-7])
    for name, words in (
        ("square.npy", "shape"),
        ("real.npy", "float64"),
        ("short.npy", "3 tokens"),
        ("text.txt", "no token file"),
        ("archive.npy", "an archive of arrays"),
        ("empty.npy", "0 tokens"),
        ("odd.bin", "not a multiple"),
        ("cut.npy", "cannot read token ids"),
    ):
        with pytest.raises(DataError, match=words):
            Windows({"a": str(tmp_path / name)}, length=16)
    windows = Windows({"a": str(tmp_path / "high.npy")}, length=16)
    with pytest.raises(DataError, match=r"high.npy has token ids beyond the model's 404"):
        windows.take(np.ones(1), 2, step=0, vocabulary=404)
