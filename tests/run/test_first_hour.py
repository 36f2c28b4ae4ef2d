"""What a newcomer meets: a refusal that says what differs, a cure that works at once, folders that do not collide, a watch that waits."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tiny
import torch

from harness.cli import run as cli
from harness.cli.score import default_out
from harness.core.errors import EXIT_INCOMPLETE, EXIT_OK, SpecError, StateError
from harness.feed.feed import read_feed


@pytest.fixture
def place(tmp_path: Path) -> Path:
    tiny.save(tmp_path / "sft-7" / "checkpoint-100", tiny.llama(1))
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text('{"q": "a", "r": " b"}\n')
    return tmp_path


def score(place: Path, *options: str) -> int:
    return cli(["score", str(place / "sft-7"), "--out", str(place / "out"), "--quiet", *options])


def test_a_folder_of_another_spec_says_what_differs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*options: str) -> str:
        capsys.readouterr()
        assert score(place, *options) == StateError.exit_code
        return capsys.readouterr().err

    a, b = str(place / "a.jsonl"), str(place / "b.jsonl")
    assert score(place, "--field", a, "--allow-pickle") == EXIT_OK
    assert 'what differs: overflow "fail", here "skip"' in refused("--field", a, "--overflow", "skip")
    said = refused("--field", a, "--field", b, "--dtype", "float64")
    assert 'dtype "auto", here "float64"' in said and "component b (new)" in said
    assert "component a (not here), component b (new)" in refused("--field", b)
    (place / "a.jsonl").write_text('{"q": "a", "r": " c"}\n')
    assert "what differs: the content of its data, or of its reference" in refused("--field", a)


def test_what_an_option_cures_is_measured_again(place: Path) -> None:
    folder = place / "sft-7" / "checkpoint-100"
    torch.save(tiny.llama(1).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    field = ("--field", str(place / "a.jsonl"))
    assert score(place, *field) == EXIT_INCOMPLETE
    assert "--allow-pickle" in (read_feed(place / "out")[0].components[0].reason or "")
    assert score(place, *field, "--allow-pickle") == EXIT_OK
    assert read_feed(place / "out")[0].status == "ok"


def test_every_training_has_a_folder_of_its_own(tmp_path: Path) -> None:
    assert default_out("runs/sft-7/checkpoint-100") == Path("results/sft-7-checkpoint-100")
    assert default_out("runs/sft-8/checkpoint-100") == Path("results/sft-8-checkpoint-100")
    assert default_out("runs/sft-7") == Path("results/sft-7")
    assert default_out("org/name@step100") == Path("results/name")


def test_watch_waits_for_a_training_and_takes_what_score_takes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    late = place / "late"

    def train() -> None:
        time.sleep(1.0)
        shutil.copytree(place / "sft-7", late)

    thread = threading.Thread(target=train)
    thread.start()
    command = ["watch", str(late), "--field", str(place / "a.jsonl"), "--dtype", "float64", "--device", "cpu"]
    command += ["--interval", "0.1", "--settle", "0", "--idle-timeout", "4", "--out", str(place / "out"), "--quiet"]
    assert cli(command) == EXIT_OK
    thread.join()
    assert f"waiting for the training to make {late}" in capsys.readouterr().err
    (vector,) = read_feed(place / "out")
    assert (vector.trajectory, vector.step, vector.provenance.dtype) == ("late", 100, "float64")
    assert json.loads((place / "out" / "run.json").read_text())["spec"]["device"] == "cpu"


AGAIN = "import sys; from harness.cli import run; code = run(sys.argv[1:]); print(code, 'torch' in sys.modules, 'transformers' in sys.modules)"


def test_a_run_with_nothing_to_do_reads_no_weights_and_imports_no_torch(place: Path) -> None:
    tiny.save_adapter(place / "sft-7" / "checkpoint-200", tiny.lora(tiny.llama(1)), place / "sft-7" / "checkpoint-100")
    command = ["score", str(place / "sft-7"), "--field", str(place / "a.jsonl"), "--out", str(place / "out"), "--quiet"]
    assert cli(command) == EXIT_OK
    again = subprocess.run([sys.executable, "-c", AGAIN, *command], capture_output=True, text=True, check=True)
    assert again.stdout.splitlines()[-1] == "0 False False"
    tiny.save(place / "sft-7" / "checkpoint-100", tiny.llama(2))
    other = subprocess.run([sys.executable, "-c", AGAIN, *command], capture_output=True, text=True, check=True)
    assert "was measured with other weights" in other.stderr, (
        "of a base too, what was seen is not trusted once it changed"
    )


def test_numbered_models_are_asked_about_and_become_steps_with_gains(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        tiny.save(place / "saves" / f"save-{number}", tiny.llama(number))
    command = ["score", str(place / "saves"), "--field", str(place / "a.jsonl"), "--quiet", "--out"]
    assert cli([*command, str(place / "asked")]) == SpecError.exit_code
    assert "--numbered steps" in capsys.readouterr().err and not (place / "asked").exists()
    assert cli([*command, str(place / "steps"), "--numbered", "steps"]) == EXIT_OK
    feed = read_feed(place / "steps")
    assert [(v.trajectory, v.step) for v in feed] == [("saves", 1), ("saves", 2)] and feed[1].gain is not None
    assert cli([*command, str(place / "models"), "--numbered", "models"]) == EXIT_OK
    assert read_feed(place / "models").trajectories == ["save-1", "save-2"]
    assert cli([*command, str(place / "other"), "--numbered", "both"]) == SpecError.exit_code
    watched = ["watch", str(place / "saves"), "--field", str(place / "a.jsonl"), "--quiet", "--idle-timeout", "0"]
    assert cli([*watched, "--settle", "0", "--interval", "0.1", "--out", str(place / "watched")]) == EXIT_OK
    assert [(v.trajectory, v.step) for v in read_feed(place / "watched")] == [("saves", 1), ("saves", 2)]
