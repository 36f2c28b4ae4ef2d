"""What a sweep keeps between checkpoints never shows in a number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from harness.checkpoints.find import find_checkpoints
from harness.checkpoints.open import Opener
from harness.core.component import SilentProgress
from harness.core.errors import CheckpointError
from harness.core.opening import OpenOptions
from harness.core.tokens import TokenPair
from harness.engines.models.shelf import Shelf
from harness.engines.scoring.packs import PackPlan
from harness.engines.scoring.score import score

PAIRS = [
    TokenPair(id=str(n), ids=np.arange(n, 40 + n, dtype=np.int32), n_context=10, n_bytes=1, cluster=str(n))
    for n in range(3)
]


def values(model: Any) -> list[float]:
    result: list[float] = score(model, PackPlan(PAIRS), progress=SilentProgress()).logprob.tolist()
    return result


def sweep(folders: Sequence[Path], opener: Opener, base: Path | None = None) -> tuple[list[list[float]], list[int]]:
    """Scores of every folder through one opener, and which model object gave them."""
    results, models = [], []
    for folder in folders:
        (checkpoint,) = find_checkpoints([str(folder)], base=str(base) if base else None)
        with opener.open(checkpoint) as subject:
            results.append(values(subject.model()))
            models.append(id(subject.model()))
    return results, models


def opener(**options: Any) -> Opener:
    return Opener(OpenOptions(**{"dtype": "auto", "device": "cpu", **options}))


@pytest.mark.parametrize("name", ["llama", "llama tied", "gpt_neox", "gemma", "opt"])
@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_a_model_copied_into_the_one_before_scores_as_if_loaded_alone(tmp_path: Path, name: str, dtype: str) -> None:
    folders = [tiny.save(tmp_path / str(seed), tiny.family(name, seed)) for seed in range(3)]
    kept, models = sweep(folders, opener(dtype=dtype))
    alone = [sweep([folder], opener(dtype=dtype))[0][0] for folder in folders]
    assert kept == alone
    assert kept[0] != kept[1]
    if name != "gpt_neox":  # its weights have other names on disk: it is loaded afresh
        assert len(set(models)) == 1


def test_shards_are_copied_as_one_file_is(tmp_path: Path) -> None:
    first = tiny.save(tmp_path / "one", tiny.llama(1))
    tiny.llama(2).save_pretrained(tmp_path / "two", max_shard_size="20KB")
    tiny.tokenizer().save_pretrained(tmp_path / "two")
    assert len(list((tmp_path / "two").glob("*.safetensors"))) > 1
    kept, models = sweep([first, tmp_path / "two"], opener())
    assert kept[1] == sweep([tmp_path / "two"], opener())[0][0]
    assert len(set(models)) == 1


def test_another_configuration_is_another_model(tmp_path: Path) -> None:
    plain = tiny.save(tmp_path / "plain", tiny.llama())
    rotated = tiny.save(tmp_path / "rotated", tiny.llama(rope_parameters={"rope_type": "default", "rope_theta": 50.0}))
    kept, _ = sweep([plain, rotated, plain], opener())
    assert kept[0] == kept[2] != kept[1]
    assert kept[1] == sweep([rotated], opener())[0][0]


def test_a_checkpoint_that_lacks_a_weight_is_refused_after_a_whole_one(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folders = [tiny.save(tmp_path / str(seed), tiny.llama(seed)) for seed in range(3)]
    weights = load_file(folders[1] / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folders[1] / "model.safetensors", metadata={"format": "pt"})
    kept = opener()
    first = sweep([folders[0]], kept)[0][0]
    with pytest.raises(CheckpointError, match="up_proj"):
        sweep([folders[1]], kept)
    assert sweep([folders[0], folders[2]], kept)[0] == [first, sweep([folders[2]], opener())[0][0]]


def test_adapters_in_turn_on_one_base_score_as_if_loaded_alone(tmp_path: Path) -> None:
    base = tiny.save(tmp_path / "base", tiny.llama())
    changes: list[dict[str, Any]] = [
        {},
        {"target_modules": ["o_proj", "up_proj"], "r": 2},
        {"modules_to_save": ["lm_head"]},
        {"use_rslora": True},
        {"bias": "lora_only"},
        {},
    ]
    folders = []
    for seed, change in enumerate(changes):
        folder = tmp_path / f"adapter-{seed}"
        model = tiny.lora(tiny.llama(), seed, **change)
        if "modules_to_save" in change:
            with torch.no_grad():
                model.get_output_embeddings().modules_to_save["default"].weight += 0.1
        model.save_pretrained(folder)
        folders.append(folder)
    kept, _ = sweep(folders, opener(), base)
    alone = [sweep([folder], opener(), base)[0][0] for folder in folders]
    assert kept == alone
    assert len({tuple(row) for row in kept}) == len(folders)
    both = opener()
    assert sweep([folders[0]], both, base)[0][0] == kept[0]
    assert sweep([base], both)[0][0] == values(tiny.llama())
    assert sweep([folders[1]], both, base)[0][0] == kept[1]


def test_adapters_of_the_common_kind_share_the_base_in_memory(tmp_path: Path) -> None:
    base = tiny.save(tmp_path / "base", tiny.llama())
    for seed in (1, 2, 3):
        tiny.lora(tiny.llama(), seed).save_pretrained(tmp_path / f"adapter-{seed}")
    _, models = sweep([tmp_path / f"adapter-{seed}" for seed in (1, 2, 3)], opener(), base)
    assert len(set(models)) == 1


def test_a_broken_adapter_leaves_the_next_one_as_it_is(tmp_path: Path) -> None:
    base = tiny.save(tmp_path / "base", tiny.llama())
    for seed in (1, 2, 3):
        tiny.lora(tiny.llama(), seed).save_pretrained(tmp_path / f"adapter-{seed}")
    broken = tmp_path / "adapter-2" / "adapter_model.safetensors"
    broken.write_bytes(broken.read_bytes()[:-20])
    shelf = Shelf(OpenOptions(), device=torch.device("cpu"))
    files = [base / "model.safetensors"]
    shelf.adapted(base, files, tmp_path / "adapter-1")
    with pytest.raises(CheckpointError, match="adapter-2"):
        shelf.adapted(base, files, tmp_path / "adapter-2")
    kept = values(shelf.adapted(base, files, tmp_path / "adapter-3"))
    assert kept == sweep([tmp_path / "adapter-3"], opener(), base)[0][0]
