"""Pickled weights: what happens to their file while they are loaded changes nothing, and ends nothing."""

from __future__ import annotations

import json
from pathlib import Path

import tiny
import torch

from harness.core.opening import OpenOptions
from harness.engines.models.load import load_model
from harness.engines.models.pickled import held_in_memory


def pickled(folder: Path, *, n_files: int = 1) -> dict[str, torch.Tensor]:
    model = tiny.llama(1)
    tiny.save(folder, model)
    (folder / "model.safetensors").unlink()
    state = model.state_dict()
    if n_files == 1:
        torch.save(state, folder / "pytorch_model.bin")
    else:
        names = {name: f"pytorch_model-{1 + i % n_files:05}-of-{n_files:05}.bin" for i, name in enumerate(state)}
        for file in set(names.values()):
            torch.save({name: state[name] for name in state if names[name] == file}, folder / file)
        index = {"metadata": {}, "weight_map": names}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return state


def test_a_file_that_is_emptied_while_it_is_mapped_ends_nothing(tmp_path: Path) -> None:
    state = pickled(tmp_path)
    with held_in_memory(tmp_path) as copy:
        mapped = torch.load(copy / "pytorch_model.bin", mmap=True)
        (tmp_path / "pytorch_model.bin").write_bytes(b"")
        assert all(torch.equal(mapped[name], state[name]) for name in state)
    assert not copy.exists()


def test_one_file_or_several_are_loaded_as_they_are(tmp_path: Path) -> None:
    for n_files in (1, 3):
        folder = tmp_path / str(n_files)
        state = pickled(folder, n_files=n_files)
        model = load_model(folder, OpenOptions(allow_pickle=True), device=torch.device("cpu"))
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert model.config.name_or_path == str(folder)


def test_a_folder_without_pickles_is_itself(tmp_path: Path) -> None:
    with held_in_memory(tmp_path) as same:
        assert same == tmp_path
