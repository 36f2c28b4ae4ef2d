"""Real trainings by TRL and LLaMA-Factory, each in its own environment: their vectors, and the folders that they leave.

`make trainers` makes the environments; $HARNESS_TRL and $HARNESS_LLAMAFACTORY name others. (transformers' own Trainer: test_callback.py.)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import forked
import pytest
import tiny
import yaml

from harness import read_feed
from harness.core.errors import EXIT_OK

ROOT = Path(__file__).parents[2]


def environment(name: str) -> Path:
    """The environment of a trainer; without one, the test is skipped by its name."""
    given = os.environ.get(f"HARNESS_{name.upper()}")
    folder = Path(given) if given else Path(f"{sys.prefix}-{name}")
    if not (folder / "bin" / "python").exists():
        pytest.skip(f"no environment with {name}; `make trainers` makes one, $HARNESS_{name.upper()} names another")
    return folder


def train(command: list[str], folder: Path, **variables: str) -> None:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    tiny.save(tmp_path / "base", tiny.llama(1))
    turns = [(f"What is {i} and 1?", f"It is {i + 1}.") for i in range(16)]
    openai = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": r}]} for q, r in turns]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in openai))
    sharegpt = [{"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": r}]} for q, r in turns]
    (tmp_path / "sharegpt.json").write_text(json.dumps(sharegpt))
    info = {"chats": {"file_name": "sharegpt.json", "formatting": "sharegpt"}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    (tmp_path / "spec.yaml").write_text("components: [{name: held_out, kind: logprob, field: chats.jsonl}]\n")
    return tmp_path


def score(place: Path, *arguments: str) -> None:
    done = forked.run([sys.executable, "-m", "harness", "score", *arguments, "--quiet"], cwd=place)
    assert done.returncode == EXIT_OK, done.stderr


@pytest.mark.slow
def test_trls_trainer_with_lora_gives_live_vectors_equal_to_its_saved_adapters(place: Path) -> None:
    python = environment("trl") / "bin" / "python"
    example = ROOT / "examples" / "training" / "trl_sft.py"
    train([str(python), str(example), "base", "chats.jsonl", "spec.yaml", "out"], place, PYTHONPATH=str(ROOT))
    live = read_feed(place / "out" / "live")
    assert [(v.trajectory, v.step, v.status) for v in live] == [("sft", 2, "ok"), ("sft", 4, "ok")]
    score(place, "out/sft", "--base", "base", "--spec", "spec.yaml", "--out", "saved")
    saved = read_feed(place / "saved")
    assert [v.step for v in saved] == [2, 4] and {v.checkpoint.kind for v in saved} == {"lora"}
    for one, other in zip(live, saved, strict=True):
        assert one.vector[0] == pytest.approx(other.vector[0], abs=1e-5)
    assert live[0].vector != live[1].vector, "a training that changes nothing shows nothing"


@pytest.mark.slow
def test_llama_factorys_folder_and_data_are_taken_as_they_are(place: Path) -> None:
    command = environment("llamafactory") / "bin" / "llamafactory-cli"
    settings = yaml.safe_load((ROOT / "examples" / "training" / "llamafactory.yaml").read_text(encoding="utf-8"))
    settings |= {"model_name_or_path": "base", "use_cpu": True, "max_steps": 4, "save_steps": 2, "learning_rate": 0.01}
    (place / "train.yaml").write_text(yaml.safe_dump(settings))
    train([str(command), "train", "train.yaml"], place)
    score(place, "saves/sft-7", "--field", "dataset_info.json#chats", "--out", "saved")
    feed = read_feed(place / "saved")
    assert [(v.trajectory, v.step, v.status, v.checkpoint.kind) for v in feed] == [
        ("sft-7", 2, "ok", "lora"),
        ("sft-7", 4, "ok", "lora"),
    ]
    assert feed.components == ["chats"] and feed[0].vector != feed[1].vector
