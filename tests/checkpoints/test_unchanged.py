"""What was identified is what is scored: files that change, shrink or are replaced in between make a failed measurement."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny

from harness import read_feed
from harness.checkpoints.find import find_checkpoints
from harness.checkpoints.fingerprint import full_fingerprint
from harness.checkpoints.open import Opener
from harness.core.errors import CheckpointError
from harness.core.opening import OpenOptions
from harness.run.pipeline import run
from harness.spec.prepared import prepare
from harness.spec.spec import parse_spec

WEIGHTS = "model.safetensors"


def shrink(folder: Path) -> None:
    os.truncate(folder / WEIGHTS, (folder / WEIGHTS).stat().st_size // 2)


def replace(folder: Path) -> None:
    tiny.save(folder, tiny.llama(9))


def write_over(folder: Path) -> None:
    """Other bytes in the same file, its time set back."""
    stat = (folder / WEIGHTS).stat()
    with (folder / WEIGHTS).open("r+b") as stream:
        stream.seek(-64, os.SEEK_END)
        stream.write(b"\x00\x00\x00\x40" * 16)
    os.utime(folder / WEIGHTS, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def reconfigure(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.1}))


def retokenize(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "split_special_tokens": True}))


@pytest.mark.parametrize("change", [shrink, replace, write_over, reconfigure, retokenize])
def test_a_change_between_identification_and_loading_is_an_error(
    change: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = tiny.save(tmp_path / "model")
    (checkpoint,) = find_checkpoints([str(folder)])
    opener = Opener(OpenOptions(dtype="auto", device="cpu"))
    opener.identifier.identify(checkpoint)
    change(folder)
    with pytest.raises(CheckpointError), opener.open(checkpoint) as subject:
        subject.model()


def test_a_new_hard_link_changes_nothing(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "model")
    (checkpoint,) = find_checkpoints([str(folder)])
    opener = Opener(OpenOptions(dtype="auto", device="cpu"))
    opener.identifier.identify(checkpoint)
    os.link(folder / WEIGHTS, tmp_path / "kept")
    with opener.open(checkpoint) as subject:
        assert subject.model() is not None


def test_a_base_that_changes_in_a_sweep_is_read_again(tmp_path: Path) -> None:
    base = tiny.save(tmp_path / "base")
    adapters = [
        tiny.save_adapter(tmp_path / f"checkpoint-{seed}", tiny.lora(tiny.llama(), seed), base) for seed in (1, 2)
    ]
    first, second = find_checkpoints([str(folder) for folder in adapters])
    opener = Opener(OpenOptions(dtype="auto", device="cpu"))
    before = opener.identifier.identify(first).fingerprint
    tiny.save(base, tiny.llama(5))
    assert opener.identifier.identify(first).fingerprint != before
    assert (
        opener.identifier.identify(second).fingerprint
        == Opener(OpenOptions(dtype="auto", device="cpu")).identifier.identify(second).fingerprint
    )


def test_a_file_that_shrinks_while_it_is_read_ends_no_process(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "large", tiny.llama(hidden_size=256, intermediate_size=2048, num_hidden_layers=4))
    whole = (folder / WEIGHTS).read_bytes()
    stop = threading.Event()

    def flicker() -> None:
        while not stop.is_set():
            os.truncate(folder / WEIGHTS, len(whole) // 3)
            (folder / WEIGHTS).write_bytes(whole)

    thread = threading.Thread(target=flicker)
    thread.start()
    outcomes = set()
    try:
        for _ in range(20):
            opener = Opener(OpenOptions(dtype="auto", device="cpu"))
            try:
                (checkpoint,) = find_checkpoints([str(folder)])
                opener.identifier.identify(checkpoint)
                with opener.open(checkpoint) as subject:
                    subject.model()
                outcomes.add("scored")
            except CheckpointError:
                outcomes.add("refused")
    finally:
        stop.set()
        thread.join()
    assert "refused" in outcomes


def test_remote_code_is_part_of_the_fingerprint_where_it_may_run(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "model")
    plain = full_fingerprint(folder)
    assert full_fingerprint(folder, code=True) == plain
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModelForCausalLM": "own.Model"}}))
    (folder / "own.py").write_text("A = 1\n")
    mapped, first = full_fingerprint(folder), full_fingerprint(folder, code=True)
    (folder / "own.py").write_text("A = 2\n")
    assert full_fingerprint(folder) == mapped
    assert len({mapped, first, full_fingerprint(folder, code=True)}) == 3


def test_two_steps_with_equal_weights_are_said_to_be_equal(tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text('{"q": "a", "r": " b"}\n{"q": "c", "r": " d"}\n')
    for step, seed in ((1, 0), (2, 0), (3, 4)):
        tiny.save(tmp_path / "run" / f"checkpoint-{step}", tiny.llama(seed))
    spec = parse_spec({"components": [{"name": "f", "kind": "logprob", "field": "f.jsonl"}]}, folder=tmp_path)
    run(prepare(spec), find_checkpoints([str(tmp_path / "run")]), out=tmp_path / "out")
    first, second, third = read_feed(tmp_path / "out")
    assert "the weights are those of step 1" in second.warnings
    assert not [w for vector in (first, third) for w in vector.warnings if "the weights are those" in w]
