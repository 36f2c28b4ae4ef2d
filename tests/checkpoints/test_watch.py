"""Checkpoints of a running training: each once, when it is whole, in the order of its steps."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny

from harness.checkpoints.find import find_checkpoints
from harness.checkpoints.watch import Watch
from harness.checkpoints.whole import check_whole
from harness.core.errors import CheckpointError


class Training:
    """A folder that somebody writes to: each look at it is followed by the next of `events`."""

    def __init__(self, folder: Path, *events: Callable[[], object]) -> None:
        self.folder = folder
        self._events = list(events)

    def sleep(self, _: float) -> None:
        if self._events:
            self._events.pop(0)()

    def watch(self, *, settle_s: float = 0.0) -> Watch:
        return Watch(
            lambda: find_checkpoints([str(self.folder)]),
            interval_s=0.0,
            settle_s=settle_s,
            idle_timeout_s=0.3,
            sleep=self.sleep,
        )


def checkpoint(folder: Path, step: int) -> Path:
    return tiny.save(folder / f"checkpoint-{step}", tiny.llama(step))


def steps(watch: Watch) -> list[int | None]:
    return [found.step for found in watch]


def test_what_appears_is_yielded_once(tmp_path: Path) -> None:
    training = Training(tmp_path, lambda: checkpoint(tmp_path, 10), lambda: None, lambda: checkpoint(tmp_path, 20))
    checkpoint(tmp_path, 5)
    assert steps(training.watch()) == [5, 10, 20]


def test_an_empty_folder_is_waited_for(tmp_path: Path) -> None:
    assert steps(Training(tmp_path, lambda: checkpoint(tmp_path, 1)).watch()) == [1]


def test_half_written_weights_are_waited_for(tmp_path: Path) -> None:
    whole = checkpoint(tmp_path, 1)
    elsewhere = shutil.move(whole / "model.safetensors", tmp_path / "weights")
    content = Path(elsewhere).read_bytes()
    target = whole / "model.safetensors"
    training = Training(
        tmp_path,
        lambda: target.write_bytes(content[:40]),
        lambda: target.write_bytes(content[:-1]),
        lambda: target.write_bytes(content),
    )
    watch = training.watch()
    assert steps(watch) == [1] and watch.waiting == {}


def test_what_never_becomes_whole_is_named(tmp_path: Path) -> None:
    checkpoint(tmp_path, 1)
    broken = checkpoint(tmp_path, 2) / "model.safetensors"
    broken.write_bytes(broken.read_bytes()[:-8])
    watch = Training(tmp_path).watch()
    assert steps(watch) == [1]
    assert [label.rpartition("/")[2] for label in watch.waiting] == ["checkpoint-2"]
    assert "truncated" in next(iter(watch.waiting.values()))


def test_files_that_still_change_are_waited_for(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 1)
    watch = Training(tmp_path, *[(folder / "trainer_state.json").touch] * 2).watch(settle_s=60.0)
    assert steps(watch) == [] and "changed less than 60 s ago" in next(iter(watch.waiting.values()))
    old = 1_600_000_000
    for path in folder.iterdir():
        os.utime(path, (old, old))
    assert steps(Training(tmp_path).watch(settle_s=60.0)) == [1]


def test_a_checkpoint_removed_before_its_turn_is_named(tmp_path: Path) -> None:
    first, second = checkpoint(tmp_path, 1), checkpoint(tmp_path, 2)
    watch = Training(tmp_path).watch()
    seen = []
    for found in watch:
        seen.append(found.step)
        if found.folder == first:
            shutil.rmtree(second)
    assert seen == [1] and watch.removed == [str(second)]


def test_an_adapter_is_whole_with_its_weights(tmp_path: Path) -> None:
    base = tiny.save(tmp_path / "base")
    adapter = tiny.save_adapter(tmp_path / "run" / "checkpoint-1", tiny.lora(tiny.llama()), base)
    (found,) = find_checkpoints([str(tmp_path / "run")], base=str(base))
    assert 0 < check_whole(found).n_parameters < 10_000
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="still being written"):
        check_whole(found)
