"""score, the live environment and the callback really tell a tracker: what it holds is the feed."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tiny
from track.trackers_here import need, points, words

from harness import RewardCallback, RewardEnvironment, read_feed
from harness.cli import run as main
from harness.core.errors import SpecError
from harness.spec.spec import Spec, parse_spec

ROWS = [{"q": f"Question {i}?\nAnswer:", "r": f" {i} and {i + 1}"} for i in range(6)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    need("tensorboard")
    need("trackio")
    (tmp_path / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def spec_of(folder: Path, **changes: object) -> Spec:
    return parse_spec({"components": [{"name": "f", "kind": "logprob", "field": "f.jsonl"}], **changes}, folder=folder)


def both(out: Path) -> list[str]:
    """The two trackers that need no account, as --track names them."""
    return [words(name, out) for name in ("tensorboard", "trackio")]


def tracker_holds_the_feed(out: Path, *trackers: str) -> None:
    feed = read_feed(out)
    places = itertools.product(trackers or ("tensorboard",), {vector.trajectory for vector in feed})
    for tracker, name in places:
        steps = [vector for vector in feed if vector.trajectory == name]
        for metric, wanted in (
            ("reward/f", [(v.step, pytest.approx(v.components[0].raw, rel=1e-6)) for v in steps]),
            ("gain/scalar", [(v.step, pytest.approx(v.gain, rel=1e-5)) for v in steps if v.gain is not None]),
        ):
            assert sorted(points(tracker, out, metric, trajectory=name)) == wanted


def test_score_writes_every_vector_and_goes_on_where_it_stopped(here: Path) -> None:
    command = ["score", "run", "-f", "f.jsonl", "-o", "out", "--track", "tensorboard", "-q"]
    for step in (2, 3):
        tiny.save(here / "run" / f"checkpoint-{step}", tiny.llama(step))
    assert main(command) == 0
    tracker_holds_the_feed(here / "out")
    tiny.save(here / "run" / "checkpoint-4", tiny.llama(4))
    tiny.save(here / "run" / "checkpoint-1", tiny.llama(1))  # comes late: the gain of step 2 is another one now
    assert main(command) == 0
    assert len(read_feed(here / "out")) == 4
    tracker_holds_the_feed(here / "out")


def test_a_run_that_was_not_tracked_is_written_as_a_whole_later(here: Path) -> None:
    tiny.save(here / "run" / "checkpoint-1", tiny.llama(1))
    tiny.save(here / "run" / "checkpoint-2", tiny.llama(2))
    assert main(["score", "run", "-f", "f.jsonl", "-o", "out", "-q"]) == 0
    assert not (here / "out" / "tensorboard").exists()
    options = [word for name in both(here / "out") for word in ("--track", name)]
    assert main(["score", "run", "-f", "f.jsonl", "-o", "out", "-q", *options]) == 0
    tracker_holds_the_feed(here / "out", "tensorboard", "trackio")


def test_a_tracker_that_cannot_write_changes_no_number_and_no_exit_code(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.save(here / "run" / "checkpoint-1", tiny.llama(1))
    assert main(["score", "run", "-f", "f.jsonl", "-o", "plain", "-q"]) == 0
    plain = capsys.readouterr().out
    (here / "file").write_text("no folder")
    assert main(["score", "run", "-f", "f.jsonl", "-o", "out", "-q", "--track", "tensorboard:file"]) == 0
    said = capsys.readouterr()
    assert said.out.replace("out/", "plain/") == plain
    assert said.err.count("warning: tracker tensorboard failed") == 1
    assert read_feed(here / "out")[0].vector == read_feed(here / "plain")[0].vector


def test_an_unknown_tracker_is_refused_before_anything_is_measured_or_written(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.save(here / "run" / "checkpoint-1", tiny.llama(1))
    (here / "spec.yaml").write_text("track: [tensorbord]\ncomponents: [{name: f, kind: logprob, field: f.jsonl}]\n")
    for given in (["-f", "f.jsonl", "--track", "tensorbord"], ["-s", "spec.yaml"]):
        assert main(["score", "run", "-o", "out", *given]) == SpecError.exit_code
        assert "did you mean tensorboard?" in capsys.readouterr().err
    assert not (here / "out").exists()


def test_the_spec_names_trackers_too_and_they_are_no_part_of_what_is_measured(here: Path) -> None:
    from harness.spec.prepared import prepare

    assert spec_of(here, track="wandb").track == ["wandb"]
    assert prepare(spec_of(here, track=["wandb", "mlflow:x"])).digest == prepare(spec_of(here)).digest


def test_watch_tracks_the_checkpoints_of_a_running_training(here: Path) -> None:
    for step in (1, 2):
        tiny.save(here / "run" / f"checkpoint-{step}", tiny.llama(step))
    options = ["--interval", "0.1", "--settle", "0", "--idle-timeout", "0.5", "-q"]
    options += [word for name in both(here / "out") for word in ("--track", name)]
    assert main(["watch", "run", "-f", "f.jsonl", "-o", "out", *options]) == 0
    assert len(read_feed(here / "out")) == 2
    tracker_holds_the_feed(here / "out", "tensorboard", "trackio")


def test_a_live_environment_tracks_and_a_restarted_one_continues(here: Path) -> None:
    for steps in ((0, 1), (1, 2)):
        with RewardEnvironment(spec_of(here), out=here / "live", track=both(here / "live")) as environment:
            for step in steps:
                environment.feedback(tiny.llama(step), tiny.tokenizer(), step=step)
    tracker_holds_the_feed(here / "live", "tensorboard", "trackio")


def test_a_live_environment_without_a_folder_tracks_where_it_is_told(here: Path) -> None:
    with pytest.raises(SpecError, match="tensorboard:FOLDER names one"):
        RewardEnvironment(spec_of(here), track="tensorboard")
    with RewardEnvironment(spec_of(here), track=f"tensorboard:{here}/logs") as environment:
        environment.feedback(tiny.llama(0), tiny.tokenizer(), step=0)
    assert len(list((here / "logs").rglob("events.out.tfevents.*"))) == 1


def test_the_callback_tracks_every_save_and_ends_the_run_with_the_training(here: Path) -> None:
    import torch
    from transformers import Trainer, TrainingArguments, default_data_collator

    data = [{"input_ids": ids, "labels": ids} for ids in torch.randint(0, 404, (8, 12))]
    arguments = TrainingArguments(
        output_dir=str(here / "training"),
        max_steps=4,
        save_steps=2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
        dataloader_pin_memory=False,
    )
    environment = RewardEnvironment(spec_of(here), out=here / "live", track=both(here / "live"))
    Trainer(
        tiny.llama(0),
        arguments,
        data_collator=default_data_collator,
        train_dataset=data,
        processing_class=tiny.tokenizer(),
        callbacks=[RewardCallback(environment)],
    ).train()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("track-")]
    assert [vector.step for vector in read_feed(here / "live")] == [2, 4]
    tracker_holds_the_feed(here / "live", "tensorboard", "trackio")


@pytest.mark.long  # test_trackers.py kills every tracker at any moment
def test_score_killed_and_run_again_leaves_the_tracker_with_the_feed(here: Path) -> None:
    for step in range(1, 7):
        tiny.save(here / "run" / f"checkpoint-{step}", tiny.llama(step))
    command = [sys.executable, "-m", "harness", "score", "run", "-f", "f.jsonl", "-o", "out", "--track", "tensorboard"]
    feed = here / "out" / "rewards.jsonl"
    for n_lines in (1, 2, 4):
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ)
        ) as child:
            while child.poll() is None and not (feed.exists() and feed.read_bytes().count(b"\n") >= n_lines):
                time.sleep(0.002)
            child.send_signal(signal.SIGKILL)
    subprocess.run(command, check=True, capture_output=True)
    assert len(read_feed(here / "out")) == 6
    tracker_holds_the_feed(here / "out")
    shutil.rmtree(here / "out" / "tensorboard")  # what the tracker lost is written again
    subprocess.run(command, check=True, capture_output=True)
    tracker_holds_the_feed(here / "out")
