"""Inside transformers' Trainer: the stream's shares follow the policy at each feedback, a resumed training goes on, data come as asked for."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from harness import RewardEnvironment, read_feed
from harness.core.errors import SpecError
from harness.mixing.agent import Agent, Settings
from harness.mixing.baselines import Fixed
from harness.mixing.callback import MixingCallback
from harness.mixing.domains import Floats
from harness.mixing.steering import Steering
from harness.mixing.stream import MixedStream
from harness.spec.spec import parse_spec

DOMAINS = ("web", "code", "junk")


class Turning:
    """All of one domain, another after each feedback; keeps what it was shown."""

    def __init__(self) -> None:
        self.seen: list[Floats] = []

    def next(self, matrix: Floats) -> Floats:
        self.seen.append(matrix.copy())
        return np.eye(len(DOMAINS))[(len(matrix) - 1) % len(DOMAINS)]


def examples(domain: int, n: int = 6) -> list[dict[str, Any]]:
    return [{"input_ids": [domain + 5] * 8, "labels": [domain + 5] * 8, "row": row} for row in range(n)]


def stream(**more: Any) -> MixedStream:
    return MixedStream({name: examples(place) for place, name in enumerate(DOMAINS)}, **more)


def environment(folder: Path) -> RewardEnvironment:
    field = folder / "field.jsonl"
    field.write_text("".join(f'{{"q": "a {i}", "r": " is {i * i}"}}\n' for i in range(6)))
    spec = parse_spec({"components": [{"name": "a", "kind": "logprob", "field": str(field)}]})
    return RewardEnvironment(spec, out=folder / "out")


def train(
    folder: Path, policy: Any, *, steps: int, resume: bool = False, save: int = 4
) -> tuple[list[tuple[int, list[float]]], Any]:
    told: list[tuple[int, list[float]]] = []
    scored = environment(folder)
    mixed = stream()
    callback = MixingCallback(
        scored, mixed, policy, every=2, trajectory="t", on_mixture=lambda step, shares: told.append((step, shares))
    )
    arguments = TrainingArguments(
        output_dir=str(folder / "sft"), max_steps=steps, per_device_train_batch_size=2, save_steps=save, use_cpu=True,
        report_to=[], disable_tqdm=True, logging_strategy="no", learning_rate=1e-3, include_num_input_tokens_seen="all",
    )  # fmt: skip
    trainer = Trainer(
        model=tiny.llama(), args=arguments, train_dataset=mixed, processing_class=tiny.tokenizer(), callbacks=[callback],
        data_collator=lambda rows: {name: np_stack([row[name] for row in rows]) for name in ("input_ids", "labels")},
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume or None)
    return told, scored


def np_stack(rows: list[list[int]]) -> Any:
    import torch

    return torch.tensor(rows)


def test_every_feedback_re_weights_the_stream_and_is_a_vector_with_what_was_trained_on(tmp_path: Path) -> None:
    policy = Turning()
    told, scored = train(tmp_path, policy, steps=6)
    assert told == [(0, [1.0, 0.0, 0.0]), (2, [0.0, 1.0, 0.0]), (4, [0.0, 0.0, 1.0]), (6, [1.0, 0.0, 0.0])]
    vectors = list(scored.feed.trajectory("t"))
    assert [vector.step for vector in vectors] == [0, 2, 4, 6]
    mixtures = [None if v.mixture is None else v.mixture.normalized() for v in vectors]
    assert mixtures == [None, *({n: float(n == name) for n in DOMAINS} for name in ("web", "code", "junk"))]
    assert [len(matrix) for matrix in policy.seen] == [1, 2, 3, 4] and policy.seen[-1].shape == (4, 4)
    assert len({vector.vector[0] for vector in vectors}) == 4, "the model was trained in between"


def test_a_training_that_is_resumed_goes_on_in_the_same_trajectory(tmp_path: Path) -> None:
    train(tmp_path, Turning(), steps=4)
    told, scored = train(tmp_path, Turning(), steps=8, resume=True)
    assert told == [(4, [0.0, 0.0, 1.0]), (6, [1.0, 0.0, 0.0]), (8, [0.0, 1.0, 0.0])]
    vectors = list(scored.feed.trajectory("t").latest())
    assert [vector.step for vector in vectors] == [0, 2, 4, 6, 8]
    assert vectors[3].mixture is not None and vectors[3].mixture.normalized()["junk"] == 1.0


def test_a_training_that_is_resumed_between_two_feedbacks_keeps_its_shares(tmp_path: Path) -> None:
    train(tmp_path, Turning(), steps=5, save=5)
    told, scored = train(tmp_path, Turning(), steps=6, resume=True)
    assert told == [(6, [1.0, 0.0, 0.0])]
    (last,) = [vector for vector in scored.feed.trajectory("t").latest() if vector.step == 6]
    assert last.mixture is not None and last.mixture.normalized()["junk"] == 1.0, "what was chosen at step 4"


def test_a_training_that_goes_back_decides_from_what_was_before(tmp_path: Path) -> None:
    train(tmp_path, Turning(), steps=6)
    shutil.rmtree(tmp_path / "sft" / "checkpoint-6")
    policy = Turning()
    told, _ = train(tmp_path, policy, steps=8, resume=True)
    assert told == [(4, [0.0, 0.0, 1.0]), (6, [1.0, 0.0, 0.0]), (8, [0.0, 1.0, 0.0])]
    assert [len(matrix) for matrix in policy.seen] == [3, 4, 5], "step 6 of before is no history of step 4"


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_callback as here

class Failing(here.Turning):
    def next(self, matrix):
        if len(matrix) == 2:
            raise ValueError("no more of this")
        return super().next(matrix)

fails = sys.argv[3] == "fail"
try:
    told, _ = here.train(Path(sys.argv[2]), Failing() if fails else here.Turning(), steps=4)
    print("TOLD", told)
except Exception as error:
    print("RAISED", type(error).__name__, error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True])
def test_several_processes_train_on_the_same_shares_and_one_of_them_scores(tmp_path: Path, fails: bool) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    common["PYTHONPATH"] = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(tmp_path), "fail" if fails else "fine"]
    ranks = [
        subprocess.Popen(command, env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]  # fmt: skip
    said = []
    for rank in ranks:
        out, errors = rank.communicate(timeout=300)
        lines = [line for line in out.splitlines() if line.startswith(("TOLD", "RAISED"))]
        assert lines, errors[-2000:]
        said += lines
    feed = read_feed(tmp_path / "out")
    if fails:
        assert said[0] == "RAISED ValueError no more of this"
        assert said[1].startswith("RAISED EngineError the first process of the training could not score: ValueError")
        return
    assert said[0] == said[1] == f"TOLD {[(0, [1.0, 0.0, 0.0]), (2, [0.0, 1.0, 0.0]), (4, [0.0, 0.0, 1.0])]}"
    assert [vector.step for vector in feed.trajectory("t")] == [0, 2, 4] and len(feed) == 3


def test_an_agent_decides_from_its_folder_whatever_the_order_of_its_domains(tmp_path: Path) -> None:
    agent = Agent([*DOMAINS[::-1]], ["a"], settings=Settings(width=16, heads=2))
    agent.save(tmp_path / "agent")
    scored = environment(tmp_path)
    steering = Steering(scored, str(tmp_path / "agent"), domains=DOMAINS, trajectory="t")
    shares = steering.next(tiny.llama(), tiny.tokenizer(), step=0, trained_on=None)
    wanted = agent.next_of(scored.feed, "t")
    assert dict(zip(DOMAINS, shares.tolist(), strict=True)) == pytest.approx(wanted)
    with pytest.raises(SpecError, match="the agent mixes junk, code, web, and the trainer has web, code"):
        Steering(scored, agent, domains=DOMAINS[:2], trajectory="t")


def test_shares_are_what_is_drawn_and_a_change_shows_at_the_next_example() -> None:
    mixed = stream(shares=[3, 1, 0], seed=1)
    assert mixed.shares == [0.75, 0.25, 0.0]
    reader = iter(mixed)
    drawn = Counter(next(reader)["input_ids"][0] - 5 for _ in range(4000))
    assert drawn[2] == 0 and 0.72 < drawn[0] / 4000 < 0.78
    mixed.set_shares([0, 0, 1])
    assert {next(reader)["input_ids"][0] for _ in range(20)} == {7}


def test_every_example_comes_once_before_any_comes_again_and_a_seed_decides_all() -> None:
    def rows(seed: int) -> list[int]:
        reader = iter(stream(shares=[1, 0, 0], seed=seed))
        return [next(reader)["row"] for _ in range(18)]

    first = rows(0)
    assert all(sorted(first[at : at + 6]) == list(range(6)) for at in (0, 6, 12))
    assert rows(0) == first != rows(1)


def test_workers_of_a_loader_see_a_change_and_draw_unlike_data() -> None:
    mixed = stream(shares=[1, 0, 0])
    loader = DataLoader(mixed, batch_size=None, num_workers=2, prefetch_factor=1, collate_fn=lambda row: row)
    reader = iter(loader)
    assert {next(reader)["input_ids"][0] for _ in range(8)} == {5}
    mixed.set_shares([0, 1, 0])
    later = [next(reader)["input_ids"][0] for _ in range(20)]
    assert set(later[-10:]) == {6}, "all but what was prefetched"


def test_workers_of_a_loader_read_every_example_once_before_any_comes_again() -> None:
    mixed = MixedStream({"web": [{"row": row} for row in range(12)], "code": [{"row": -1}]}, shares=[1, 0])
    reader = iter(
        DataLoader(mixed, batch_size=None, num_workers=2, prefetch_factor=1, collate_fn=lambda row: row["row"])
    )
    assert sorted(next(reader) for _ in range(12)) == list(range(12))
    mixed.set_shares([0, 1])
    assert {next(reader) for _ in range(30)} >= {-1}, "fewer examples than workers: each has them all"


@pytest.mark.parametrize("shares", [[1, 2], [0, 0, 0], [1, -1, 1], [1, float("nan"), 0]])
def test_what_is_no_mixture_is_refused(shares: list[float]) -> None:
    with pytest.raises(SpecError, match="3 shares are wanted"):
        stream(shares=shares)


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no examples in code"):
        MixedStream({"web": [1], "code": []})
    with pytest.raises(SpecError, match="the seed is -1"):
        stream(seed=-1)
    with pytest.raises(SpecError, match="every is 0"):
        MixingCallback(environment(tmp_path), stream(), Fixed(np.ones(3) / 3), every=0)
