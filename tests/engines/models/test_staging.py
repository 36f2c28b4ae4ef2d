"""Weights read ahead of their turn are those of the files as they are, or are not used. The GPU's way, in plain memory."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from harness.checkpoints.open import Opener
from harness.core.checkpoint import Checkpoint
from harness.core.errors import CheckpointError
from harness.core.opening import OpenOptions
from harness.engines.models.load import free_memory
from harness.engines.models.shelf import Shelf
from harness.engines.models.staging import Staging, Weights, free_host_memory

CPU = torch.device("cpu")


def checkpoint(folder: Path, seed: int, **options: Any) -> Path:
    tiny.family("llama", seed).save_pretrained(folder, **options)
    return folder


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def staged(staging: Staging, wanted: Sequence[Path]) -> dict[str, torch.Tensor] | None:
    """A copy of what is handed out."""
    with staging.taken(wanted) as weights:
        return None if weights is None else {name: tensor.clone() for name, tensor in weights}


def saved(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in files(folder) for name, tensor in load_file(path).items()}


def same(found: dict[str, torch.Tensor] | None, expected: dict[str, torch.Tensor]) -> bool:
    return (
        found is not None
        and found.keys() == expected.keys()
        and all(found[n].dtype == t.dtype and torch.equal(found[n], t) for n, t in expected.items())
    )


class Noted(Staging):
    """Notes whether it had what was asked for."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.had: list[bool] = []

    @contextlib.contextmanager
    def taken(self, files: Sequence[Path]) -> Iterator[Weights | None]:
        with super().taken(files) as weights:
            self.had.append(weights is not None)
            yield weights


def shelf(staging: Staging | None = None, **options: Any) -> Shelf:
    return Shelf(OpenOptions(**options), device=CPU, staging=staging)


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_what_is_handed_out_is_what_the_files_hold(tmp_path: Path) -> None:
    one, two = checkpoint(tmp_path / "1", 1), checkpoint(tmp_path / "2", 2, max_shard_size="20KB")
    assert len(files(two)) > 1
    staging = Staging(CPU)
    for folder in (one, two, one):
        staging.expect(files(folder))
        assert same(staged(staging, files(folder)), saved(folder))
        assert staged(staging, files(folder)) is None, "handed out once"


def test_every_type_of_number_and_shape_comes_over(tmp_path: Path) -> None:
    tensors = {
        "scalar": torch.tensor(3.0),
        "none": torch.zeros(0, 4),
        "half": torch.arange(7).to(torch.bfloat16),
        "whole": torch.arange(6).view(2, 3),
        "byte": torch.arange(5, dtype=torch.uint8),
        "truth": torch.tensor([True, False, True]),
        "double": torch.linspace(0, 1, 3, dtype=torch.float64),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    staging = Staging(CPU)
    staging.expect(files(tmp_path))
    assert same(staged(staging, files(tmp_path)), tensors)


def test_other_files_than_those_expected_are_not_there(tmp_path: Path) -> None:
    one, two = checkpoint(tmp_path / "1", 1), checkpoint(tmp_path / "2", 2)
    staging = Staging(CPU)
    assert staged(staging, files(one)) is None
    staging.expect(files(one))
    assert staged(staging, files(two)) is None
    staging.expect(files(one))
    staging.expect(files(two))
    assert staged(staging, files(one)) is None
    staging.expect(files(two))
    assert same(staged(staging, files(two)), saved(two))


def renamed_over(old: Path, new: Path) -> None:
    shutil.copy2(new, old.with_suffix(".new"))
    old.with_suffix(".new").rename(old)


def written_into(old: Path, new: Path) -> None:
    """With the old one's size, inode and time of change as people see it."""
    before = old.stat()
    old.write_bytes(new.read_bytes())
    os.utime(old, ns=(before.st_atime_ns, before.st_mtime_ns))


def removed(old: Path, new: Path) -> None:
    old.unlink()


@pytest.mark.parametrize("replace", [renamed_over, written_into, removed])
def test_a_file_replaced_since_it_was_read_is_not_used(tmp_path: Path, replace: Any) -> None:
    (one,), (two,) = files(checkpoint(tmp_path / "1", 1)), files(checkpoint(tmp_path / "2", 2))
    assert one.stat().st_size == two.stat().st_size
    staging = Staging(CPU)
    staging.expect([one])
    wait_for_reading()
    replace(one, two)
    assert staged(staging, [one]) is None


def test_an_interrupted_copy_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "1", 1)
    staging = Staging(CPU)
    staging.expect(files(folder))
    with pytest.raises(KeyboardInterrupt), staging.taken(files(folder)):
        raise KeyboardInterrupt
    assert staged(staging, files(folder)) is None
    staging.expect(files(folder))
    assert same(staged(staging, files(folder)), saved(folder))


def test_a_process_ends_while_weights_are_read(tmp_path: Path) -> None:
    table = json.dumps({"w": {"dtype": "U8", "shape": [2**29], "data_offsets": [0, 2**29]}}).encode()
    with (tmp_path / "model.safetensors").open("wb") as stream:
        stream.write(len(table).to_bytes(8, "little") + table)
        stream.truncate(8 + len(table) + 2**29)
    code = (
        "import sys, torch; from pathlib import Path; from harness.engines.models.staging import Staging\n"
        "staging = Staging(torch.device('cpu')); staging.expect([Path(sys.argv[1])])"
    )
    path = tmp_path / "model.safetensors"
    done = forked.run([sys.executable, "-c", code, str(path)], timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def wait_for_reading() -> None:
    for thread in threading.enumerate():
        if thread.name == "staging":
            thread.join(10)
            assert not thread.is_alive()


@pytest.mark.parametrize("spoil", [b"", b"short", (2**40).to_bytes(8, "little") + b"{}", b"\x02" + bytes(7) + b"[]"])
def test_what_is_no_whole_file_is_left_to_the_usual_load(tmp_path: Path, spoil: bytes) -> None:
    (path,) = files(checkpoint(tmp_path / "1", 1))
    whole = path.read_bytes()
    staging = Staging(CPU)
    for content in (spoil, whole[:-8], whole[:200]):
        path.write_bytes(content)
        staging.expect([path])
        assert staged(staging, [path]) is None
    path.write_bytes(whole)
    staging.expect([path, tmp_path / "gone.safetensors"])
    assert staged(staging, [path, tmp_path / "gone.safetensors"]) is None
    staging.expect([path])
    assert same(staged(staging, [path]), saved(tmp_path / "1"))


def test_nothing_is_staged_that_the_memory_has_no_room_for(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as stream:
        stream.truncate(2 * free_memory(CPU))
    staging = Staging(CPU)
    staging.expect([path])
    assert staged(staging, [path]) is None
    assert 0 < free_host_memory() <= free_memory(CPU) * 1.1


def test_clearing_while_weights_are_read_leaves_no_thread(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "1", 1)
    staging = Staging(CPU)
    for _ in range(20):
        staging.expect(files(folder))
        staging.clear()
    assert not [thread for thread in threading.enumerate() if thread.name == "staging"]
    assert staged(staging, files(folder)) is None


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_a_sweep_from_staged_weights_has_the_models_of_one_without(tmp_path: Path, dtype: str) -> None:
    folders = [checkpoint(tmp_path / "0", 0), checkpoint(tmp_path / "1", 1)]
    folders += [checkpoint(tmp_path / "2", 2, max_shard_size="20KB"), checkpoint(tmp_path / "3", 3)]
    staging = Noted()
    ahead, plain = shelf(staging, dtype=dtype), shelf(dtype=dtype)
    models = set()
    for folder, following in zip(folders, [*folders[1:], None], strict=True):
        model = ahead.full(folder, files(folder))
        models.add(id(model))
        assert same(weights_of(model), weights_of(plain.full(folder, files(folder))))
        if following:
            ahead.expect(files(following))
    assert len(models) == 1
    assert staging.had == [True, True, True]
    ahead.clear()
    assert staged(staging, files(folders[0])) is None


def test_a_checkpoint_overwritten_after_it_was_staged_is_loaded_as_it_is_now(tmp_path: Path) -> None:
    first, second, third = (checkpoint(tmp_path / str(seed), seed) for seed in (1, 2, 3))
    staging = Noted()
    kept = shelf(staging)
    kept.full(first, files(first))
    kept.expect(files(second))
    wait_for_reading()
    renamed_over(files(second)[0], files(third)[0])
    assert same(weights_of(kept.full(second, files(second))), saved(third))
    assert staging.had == [False]


def test_a_broken_checkpoint_that_was_expected_is_refused_by_name_and_the_next_is_whole(tmp_path: Path) -> None:
    first, second, third = (checkpoint(tmp_path / str(seed), seed) for seed in (1, 2, 3))
    (broken,) = files(second)
    broken.write_bytes(broken.read_bytes()[:-100])
    kept = shelf(Noted())
    kept.full(first, files(first))
    kept.expect(files(second))
    with pytest.raises(CheckpointError, match=str(second)):
        kept.full(second, files(second))
    kept.expect(files(third))
    assert same(weights_of(kept.full(third, files(third))), saved(third))


def test_a_weight_that_is_in_two_shards_is_not_taken_from_either(tmp_path: Path) -> None:
    first, second = checkpoint(tmp_path / "1", 1), checkpoint(tmp_path / "2", 2)
    (path,) = files(second)
    twice = [path, tmp_path / "again.safetensors"]
    save_file({"lm_head.weight": torch.zeros(404, 32)}, twice[1])
    kept = shelf(Noted())
    kept.full(first, files(first))
    kept.expect(twice)
    assert same(weights_of(kept.full(second, twice)), saved(second))


def test_an_opener_has_the_next_checkpoint_staged_and_no_other(tmp_path: Path) -> None:
    folders = [checkpoint(tmp_path / str(seed), seed) for seed in range(4)]
    checkpoints = [Checkpoint(kind="full", folder=f, label=f.name, trajectory="a", step=1) for f in folders]
    staging = Noted()
    opener = Opener(OpenOptions(dtype="auto", device="cpu"))
    opener.models.shelf = shelf(staging)
    with contextlib.closing(opener):
        for number, one in enumerate(checkpoints):
            for following in checkpoints[number + 1 : number + 2]:
                opener.models.expect(following)
            if number != 2:  # measured before: nothing asks for its model
                assert same(weights_of(opener.models.load(one)), saved(one.folder))
        assert staging.had == [True, False]
        opener.models.expect(checkpoints[1])
        opener.models.load(checkpoints[0])
        assert same(staged(staging, files(folders[1])), saved(folders[1]))
        opener.models.load(checkpoints[3])
        assert staged(staging, files(folders[1])) is None
        assert staged(staging, files(folders[3])) is None


def test_weights_are_staged_for_a_gpu_and_for_nothing_else() -> None:
    assert shelf().staging is None
    assert Shelf(OpenOptions(), device=torch.device("cuda")).staging is not None
