"""A real transformers Trainer with the callback: one vector per save, equal to scoring the saved folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import Trainer, TrainingArguments, default_data_collator

from harness import RewardCallback, RewardEnvironment, read_feed
from harness.checkpoints.find import find_checkpoints
from harness.core.errors import SpecError
from harness.core.vector import RewardVector
from harness.run.pipeline import run
from harness.spec.prepared import prepare
from harness.spec.spec import Spec, parse_spec


def make_spec(folder: Path) -> Spec:
    rows = [{"q": f"Question {i}?\nAnswer:", "r": f" {i} and {i + 1}"} for i in range(6)]
    (folder / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return parse_spec({"components": [{"name": "f", "kind": "logprob", "field": "f.jsonl"}]}, folder=folder)


def trainer(output: Path, model: Any, *, callback: RewardCallback | None = None, tokenizer: Any = None) -> Trainer:
    generator = torch.Generator().manual_seed(0)
    data = [{"input_ids": ids, "labels": ids} for ids in torch.randint(0, 404, (16, 12), generator=generator)]
    arguments = TrainingArguments(
        output_dir=str(output),
        max_steps=6,
        save_steps=2,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
        include_num_input_tokens_seen="all",
        dataloader_pin_memory=False,
        seed=0,
    )
    callbacks = [] if callback is None else [callback]
    return Trainer(
        model,
        arguments,
        data_collator=default_data_collator,
        train_dataset=data,
        processing_class=tokenizer,
        callbacks=callbacks,
    )


def test_every_save_is_one_line_that_equals_scoring_the_saved_folder(tmp_path: Path) -> None:
    spec, heard = make_spec(tmp_path), list[RewardVector]()
    callback = RewardCallback(
        RewardEnvironment(spec, out=tmp_path / "live"),
        mixture=lambda step: {"code": step, "prose": 1},
        on_feedback=heard.append,
    )
    model = tiny.llama(attention_dropout=0.2)
    trainer(tmp_path / "mix-3", model, callback=callback, tokenizer=tiny.tokenizer()).train()

    feed = read_feed(tmp_path / "live")
    saved = run(prepare(spec), find_checkpoints([str(tmp_path / "mix-3")]), out=tmp_path / "saved").feed
    assert [vector.step for vector in feed] == [vector.step for vector in saved] == [2, 4, 6]
    assert list(feed) == heard
    for live, folder in zip(feed, saved, strict=True):
        assert live.vector == folder.vector and live.gain == folder.gain
        assert live.checkpoint.fingerprint == folder.checkpoint.fingerprint
        assert live.trajectory == folder.trajectory == "mix-3"
        assert live.checkpoint.path == folder.checkpoint.path
        assert live.mixture is not None and live.mixture.weights == [live.step, 1.0]
        assert live.checkpoint.tokens_seen == live.step * 24
    assert len({vector.scalar for vector in feed}) == 3


def test_training_ends_in_the_same_weights_with_and_without_the_callback(tmp_path: Path) -> None:
    watched, alone = tiny.llama(attention_dropout=0.2), tiny.llama(attention_dropout=0.2)
    callback = RewardCallback(RewardEnvironment(make_spec(tmp_path)), mixture={"code": 1.0}, trajectory="named")
    trainer(tmp_path / "a", watched, callback=callback, tokenizer=tiny.tokenizer()).train()
    trainer(tmp_path / "b", alone, tokenizer=tiny.tokenizer()).train()
    assert all(torch.equal(a, b) for a, b in zip(watched.parameters(), alone.parameters(), strict=True))
    assert callback.environment.feed.trajectories == ["named"]


def test_a_resumed_training_goes_on_in_the_same_feed(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)

    def train(resume: bool) -> None:
        callback = RewardCallback(RewardEnvironment(spec, out=tmp_path / "live"))
        trainer(tmp_path / "run", tiny.llama(), callback=callback, tokenizer=tiny.tokenizer()).train(
            resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2") if resume else None
        )

    train(resume=False)
    before = (tmp_path / "live" / "rewards.jsonl").read_text()
    train(resume=True)
    assert (tmp_path / "live" / "rewards.jsonl").read_text() == before, "the same weights at the same steps"


def test_a_trainer_without_a_tokenizer_is_told_to_pass_one(tmp_path: Path) -> None:
    callback = RewardCallback(RewardEnvironment(make_spec(tmp_path)))
    with pytest.raises(SpecError, match=r"pass Trainer\(processing_class=tokenizer\)"):
        trainer(tmp_path / "run", tiny.llama(), callback=callback).train()
