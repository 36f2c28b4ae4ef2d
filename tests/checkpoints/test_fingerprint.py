"""A fingerprint changes with the weights and with nothing else, and damage is found while reading."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from harness.checkpoints.fingerprint import adapter_fingerprint, full_fingerprint, live_fingerprint
from harness.core.errors import CheckpointError

WEIGHTS = "model.safetensors"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    tiny.llama().save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_the_same_weights_elsewhere_are_the_same(saved: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(saved, tmp_path / "elsewhere" / "checkpoint-3")
    (copy / "trainer_state.json").write_text("{}")
    assert full_fingerprint(copy) == full_fingerprint(saved)


def test_one_changed_weight_is_another_checkpoint(saved: Path) -> None:
    before = full_fingerprint(saved)
    weights = load_file(saved / WEIGHTS)
    weights["model.layers.1.mlp.down_proj.weight"][3, 4] += 1e-6
    save_file(weights, saved / WEIGHTS, metadata={"format": "pt"})
    assert full_fingerprint(saved) != before


def test_shards_and_a_single_file_are_the_same(saved: Path, tmp_path: Path) -> None:
    tiny.llama().save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    assert full_fingerprint(tmp_path / "shards") == full_fingerprint(saved)


def test_the_files_that_are_fingerprinted_are_the_ones_that_are_loaded(saved: Path, tmp_path: Path) -> None:
    """transformers prefers the single file to an index left behind beside it."""
    tiny.llama(seed=1).save_pretrained(tmp_path / "other", max_shard_size="20KB")
    before = full_fingerprint(saved)
    for path in (tmp_path / "other").glob("model*"):
        shutil.copy(path, saved)
    assert full_fingerprint(saved) == before


def test_two_layers_swapped_are_another_checkpoint(saved: Path) -> None:
    before = full_fingerprint(saved)
    weights = load_file(saved / WEIGHTS)
    swapped = {
        name.replace(".0.", ".x.").replace(".1.", ".0.").replace(".x.", ".1."): value for name, value in weights.items()
    }
    save_file(swapped, saved / WEIGHTS, metadata={"format": "pt"})
    assert full_fingerprint(saved) != before


def test_another_rope_theta_is_another_checkpoint(saved: Path, tmp_path: Path) -> None:
    tiny.llama(rope_parameters={"rope_type": "default", "rope_theta": 500000.0}).save_pretrained(tmp_path / "other")
    assert load_file(saved / WEIGHTS).keys() == load_file(tmp_path / "other" / WEIGHTS).keys()
    assert full_fingerprint(tmp_path / "other") != full_fingerprint(saved)


def test_keys_of_the_configuration_that_change_no_score_do_not_matter(saved: Path) -> None:
    before = full_fingerprint(saved)
    path = saved / "config.json"
    config = json.loads(path.read_text())
    config.update(transformers_version="4.0", _name_or_path="x", use_cache=False, torch_dtype="float32", unset=None)
    config.pop("dtype")
    path.write_text(json.dumps(dict(reversed(config.items()))))
    assert full_fingerprint(saved) == before


@pytest.mark.parametrize("name", tiny.FAMILIES)
def test_a_live_model_is_the_folder_it_is_saved_to(name: str, tmp_path: Path) -> None:
    model = tiny.family(name)
    live = live_fingerprint(model)
    model.save_pretrained(tmp_path)
    assert full_fingerprint(tmp_path) == live
    assert live_fingerprint(type(model).from_pretrained(tmp_path)) == live


def test_a_live_model_in_bfloat16_is_the_folder_it_is_saved_to(tmp_path: Path) -> None:
    model = tiny.llama().bfloat16()
    model.save_pretrained(tmp_path)
    assert full_fingerprint(tmp_path) == live_fingerprint(model) != live_fingerprint(tiny.llama())


def test_a_fingerprint_of_a_live_model_changes_with_a_weight_and_leaves_the_model_alone() -> None:
    model = tiny.llama().train()
    before = live_fingerprint(model)
    assert live_fingerprint(model) == before
    assert model.training and all(value.grad is None for value in model.parameters())
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1e-6
    assert live_fingerprint(model) != before


def test_infinite_numbers_in_a_configuration_are_read_in_both_spellings(tmp_path: Path) -> None:
    model = tiny.llama()
    model.config.time_step_limit = [0.0, float("inf")]
    model.save_pretrained(tmp_path)
    live = live_fingerprint(model)
    assert full_fingerprint(tmp_path) == live
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "time_step_limit": [0.0, float("inf")]}))
    assert "[0.0, Infinity]" in path.read_text()
    assert full_fingerprint(tmp_path) == live


# Damage


def damage_truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def damage_header_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def damage_nearly_empty(path: Path) -> None:
    path.write_bytes(b"abc")


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_too_long(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def damage_header_text(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[8:16] = b"\xff" * 8
    path.write_bytes(bytes(content))


def damage_page(path: Path) -> None:
    path.write_bytes(b"<!DOCTYPE html><html>Not found</html>" * 50)


def with_header(path: Path, header: Any) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 16)


ENTRY = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_truncated, "is truncated: "),
        (damage_header_cut, "is truncated or corrupt"),
        (damage_nearly_empty, "is truncated or corrupt"),
        (damage_empty, "is truncated or corrupt"),
        (damage_page, "is truncated or corrupt"),
        (damage_too_long, "is longer than its header says"),
        (damage_header_text, "its header is not that of a safetensors file"),
    ],
)
def test_a_damaged_file_is_one_clear_error(saved: Path, damage: Any, message: str) -> None:
    damage(saved / WEIGHTS)
    with pytest.raises(CheckpointError, match=message) as caught:
        full_fingerprint(saved)
    assert str(saved / WEIGHTS) in str(caught.value) and "copy it again" in str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        [],
        3,
        {"w": 3},
        {"w": {}},
        {"w": {**ENTRY, "data_offsets": [16, 0]}},
        {"w": {**ENTRY, "data_offsets": ["0", "16"]}},
        {"w": {**ENTRY, "data_offsets": [0, 16, 32]}},
        {"w": {**ENTRY, "data_offsets": [-16, 16]}},
        {"w": {**ENTRY, "data_offsets": [0, 16.5]}},
        {"w": {**ENTRY, "shape": 4}},
        {"w": {**ENTRY, "shape": ["4"]}},
    ],
)
def test_a_header_that_makes_no_sense_is_one_clear_error(saved: Path, header: Any) -> None:
    with_header(saved / WEIGHTS, header)
    with pytest.raises(CheckpointError, match="its header is not that of a safetensors file; copy it again"):
        full_fingerprint(saved)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    tiny.llama().save_pretrained(tmp_path, max_shard_size="20KB")
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"lacks the shard {shard.name}"):
        full_fingerprint(tmp_path)


@pytest.mark.parametrize("index", ["{", "[]", "{}", '{"weight_map": ["a"]}', '{"weight_map": {"w": 3}}'])
def test_a_corrupt_index_is_named(tmp_path: Path, index: str) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(index)
    with pytest.raises(CheckpointError) as caught:
        full_fingerprint(tmp_path)
    assert str(path) in str(caught.value)


def test_missing_weights_say_what_was_expected(saved: Path) -> None:
    (saved / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"no weights in .* \(expected model\.safetensors"):
        full_fingerprint(saved)


@pytest.mark.parametrize("content", ["", "{", "[]", "\ud800"])
def test_a_corrupt_configuration_is_named(saved: Path, content: str) -> None:
    (saved / "config.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(CheckpointError) as caught:
        full_fingerprint(saved)
    assert str(saved / "config.json") in str(caught.value)


def test_pickled_weights_are_refused_unless_allowed_and_identified_then(saved: Path) -> None:
    torch.save(load_file(saved / WEIGHTS), saved / "pytorch_model.bin")
    (saved / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="pass --allow-pickle if you trust them"):
        full_fingerprint(saved)
    before = full_fingerprint(saved, allow_pickle=True)
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    assert full_fingerprint(saved, allow_pickle=True) != before


# Adapters


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    tiny.llama().save_pretrained(tmp_path / "base")
    return tiny.save_adapter(tmp_path / "adapter", tiny.lora(tiny.llama()), tmp_path / "base")


def test_an_adapter_is_identified_by_its_weights_and_its_base_not_by_paths(adapter: Path) -> None:
    before = adapter_fingerprint(adapter, "sha256:1")
    path = adapter / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "base_model_name_or_path": "here", "target_modules": ["v_proj", "q_proj"]}))
    assert adapter_fingerprint(adapter, "sha256:1") == before
    assert adapter_fingerprint(adapter, "sha256:2") != before
    path.write_text(json.dumps({**config, "lora_alpha": 99}))
    assert adapter_fingerprint(adapter, "sha256:1") != before


def test_an_adapter_without_weights_is_named(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no adapter_model\.safetensors in"):
        adapter_fingerprint(adapter, "sha256:1")


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("llama", {}),
        ("llama", {"modules_to_save": ["lm_head"]}),
        ("llama", {"target_modules": ["q_proj", "lm_head"]}),
        ("qwen2 tied", {}),
        ("gpt_neox", {"target_modules": ["query_key_value"]}),
    ],
)
def test_a_live_adapter_is_the_folder_it_is_saved_to(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    tiny.family(name).save_pretrained(tmp_path / "base")
    model = tiny.lora(tiny.family(name), **changes)
    tiny.save_adapter(tmp_path / "adapter", model, tmp_path / "base")
    assert live_fingerprint(model) == adapter_fingerprint(tmp_path / "adapter", full_fingerprint(tmp_path / "base"))


def test_what_acts_on_a_live_adapters_output_is_part_of_its_identity() -> None:
    model = tiny.lora(tiny.llama())
    seen = {live_fingerprint(model), live_fingerprint(tiny.llama())}
    with model.disable_adapter():
        seen.add(live_fingerprint(model))
    with torch.no_grad():
        next(value for name, value in model.named_parameters() if "lora_B" in name)[0, 0] += 1
    seen.add(live_fingerprint(model))
    model.add_adapter("second", model.peft_config["default"])
    model.set_adapter("second")
    seen.add(live_fingerprint(model))
    assert len(seen) == 5


def test_the_type_that_weights_are_converted_to_is_part_of_what_they_are(saved: Path, tmp_path: Path) -> None:
    found = {}
    for dtype in ("float32", "bfloat16"):
        folder = tmp_path / dtype
        shutil.copytree(saved, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "dtype": dtype}))
        found[dtype] = full_fingerprint(folder)
    assert found["float32"] == full_fingerprint(saved)
    assert found["bfloat16"] != found["float32"]


def test_a_pipe_in_the_place_of_weights_is_refused_at_once(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    os.mkfifo(saved / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is no file"):
        full_fingerprint(saved)
