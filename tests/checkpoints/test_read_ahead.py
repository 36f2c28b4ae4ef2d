"""Reading ahead is a hint: it never fails, whatever the files are."""

from __future__ import annotations

from pathlib import Path

from harness.checkpoints.open import Opener
from harness.checkpoints.read_ahead import read_ahead
from harness.core.checkpoint import Checkpoint
from harness.core.opening import OpenOptions


def test_files_that_are_not_there_are_no_failure(tmp_path: Path) -> None:
    there = tmp_path / "model.safetensors"
    there.write_bytes(b"x" * 10_000)
    thread = read_ahead([tmp_path / "missing", there, tmp_path])
    assert thread is not None
    thread.join(10)
    assert not thread.is_alive()
    assert there.read_bytes() == b"x" * 10_000


def test_a_checkpoint_that_cannot_be_opened_may_be_expected(tmp_path: Path) -> None:
    opener = Opener(OpenOptions(dtype="auto", device="cpu"))
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}')
    for name in ("missing", "torn", "."):
        opener.models.expect(Checkpoint(kind="full", folder=tmp_path / name, label=name, trajectory="a", step=1))
