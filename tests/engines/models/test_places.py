"""What a folder may hold beside its model's weights, and what is refused because it would be passed over or misread."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from harness.core.errors import CheckpointError
from harness.core.opening import OpenOptions
from harness.engines.models.shelf import Shelf

WEIGHTS = "model.safetensors"
ATTENTION = "model.layers.0.self_attn"


def load(folder: Path, **options: Any) -> Any:
    files = [folder / WEIGHTS] if (folder / WEIGHTS).exists() else []
    return Shelf(OpenOptions(**options), device=torch.device("cpu")).full(folder, files)


def folder(place: Path, change: Callable[[dict[str, torch.Tensor]], object], **config: Any) -> Path:
    """A Llama of two layers whose tensors were changed in place, and some keys of its configuration set."""
    tiny.save(place, tiny.llama(1))
    tensors = load_file(place / WEIGHTS)
    change(tensors)
    save_file(tensors, place / WEIGHTS, metadata={"format": "pt"})
    stored = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**stored, **config}))
    return place


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("score.weight", {}),
        ("v_head.summary.weight", {}),
        ("medusa_head.0.0.linear.weight", {}),
        (f"{ATTENTION}.k_proj.k_scale", {}),
        (f"{ATTENTION}.v_scale", {}),
        ("model.mtp_layers.0.self_attn.q_proj.weight", {}),
        ("model.decoder.version", {}),
        ("model.layers.2.eh_proj.weight", {"num_nextn_predict_layers": 1}),
    ],
)
def test_what_changes_no_score_is_passed_over(tmp_path: Path, name: str, config: dict[str, Any]) -> None:
    kept = load(folder(tmp_path / "more", lambda tensors: tensors.update({name: torch.ones(2, 2)}), **config))
    assert kept.lm_head.weight.equal(tiny.llama(1).lm_head.weight)


@pytest.mark.parametrize(
    "name", ["model.layers.0.mlp.v_head.lora_A.weight", f"{ATTENTION}.q_proj.bias", "layers.0.self_attn.q_proj.weight"]
)
def test_what_would_be_passed_over_although_it_counts_is_refused(tmp_path: Path, name: str) -> None:
    place = folder(tmp_path / "more", lambda tensors: tensors.update({name: torch.ones(32, 32)}))
    with pytest.raises(CheckpointError, match=r"no place in its model|two tensors for one place"):
        load(place)


def test_a_layer_that_the_configuration_lost_is_none_for_tokens_ahead(tmp_path: Path) -> None:
    place = folder(tmp_path / "lost", lambda _: None, num_hidden_layers=1, num_nextn_predict_layers=1)
    with pytest.raises(CheckpointError, match=r"model\.layers\.1\."):
        load(place)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64, torch.bool, torch.float8_e4m3fn])
def test_weights_that_are_no_floating_point_numbers_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    name = f"{ATTENTION}.q_proj.weight"
    place = folder(tmp_path / "odd", lambda tensors: tensors.update({name: (tensors[name] * 10).to(dtype)}))
    with pytest.raises(CheckpointError, match="no quantization_config"):
        load(place)


def test_a_pickled_models_weights_do_not_change_with_their_file(tmp_path: Path) -> None:
    model = tiny.llama(1)
    tiny.save(tmp_path, model)
    (tmp_path / WEIGHTS).unlink()
    pickled = tmp_path / "pytorch_model.bin"
    torch.save(model.state_dict(), pickled)
    loaded = load(tmp_path, allow_pickle=True)
    with pickled.open("r+b") as stream:
        stream.write(b"\0" * pickled.stat().st_size)
    for name, tensor in loaded.state_dict().items():
        assert tensor.equal(model.state_dict()[name]), name


SAVED = {"modules_to_save": ["embed_tokens", "lm_head"]}


@pytest.mark.filterwarnings("ignore::UserWarning:peft")
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("config", "rows"),
    [
        (peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], init_lora_weights=False, **SAVED), 410),
        (peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], modules_to_save=["lm_head"]), 410),
        (peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], trainable_token_indices=[405, 406]), 410),
        (peft.VBLoRAConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], num_vectors=8, vector_length=4), 404),
    ],
    ids=["both embeddings saved whole", "head saved whole", "some new tokens", "one bank of vectors for all layers"],
)
def test_an_adapter_scores_as_in_memory_whatever_peft_writes_twice_or_once(
    tmp_path: Path, config: Any, rows: int, tied: bool
) -> None:
    base = tiny.save(tmp_path / "base", tiny.llama(tie_word_embeddings=tied))
    model = tiny.llama(tie_word_embeddings=tied)
    if rows != 404:
        model.resize_token_embeddings(rows)
    live: Any = peft.get_peft_model(model, config).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in live.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
        expected = live(input_ids=torch.arange(rows)[None]).logits
    adapter = tiny.save_adapter(tmp_path / "adapter", live, base)
    shelf = Shelf(OpenOptions(), device=torch.device("cpu"))
    with torch.no_grad():
        found = shelf.adapted(base, [base / WEIGHTS], adapter)(input_ids=torch.arange(rows)[None]).logits
    assert torch.equal(found, expected)
