"""What decides answers beside weights and tokenizer is seen; what decides none of them is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from harness.checkpoints.answering import answering_digest, files_digest, note_on
from harness.checkpoints.finite import first_non_finite


def folder(tmp_path: Path, settings: dict[str, Any] | None, *, config: dict[str, Any] | None = None) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 2, **(config or {})}))
    if settings is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    return tmp_path


@pytest.mark.parametrize(
    "settings",
    [
        None,
        {},
        {"_from_model_config": True, "transformers_version": "5.0", "bos_token_id": 1, "pad_token_id": 0},
        {"eos_token_id": 2, "repetition_penalty": 1.0, "num_beams": 1, "temperature": None},
        {"eos_token_id": [2], "do_sample": True},
    ],
)
def test_settings_that_change_no_answer_are_no_part_of_the_identity(
    tmp_path: Path, settings: dict[str, Any] | None
) -> None:
    path = folder(tmp_path, settings)
    assert answering_digest(path, path) is None and note_on(path) is None


@pytest.mark.parametrize(
    "settings", [{"eos_token_id": [2, 5]}, {"repetition_penalty": 1.2}, {"top_k": 50}, {"num_beams": 4}]
)
def test_settings_that_change_answers_are(tmp_path: Path, settings: dict[str, Any]) -> None:
    path = folder(tmp_path, settings)
    first = answering_digest(path, path)
    folder(tmp_path, {**settings, "temperature": 0.5})
    assert first is not None and first != answering_digest(path, path)


def test_settings_that_vllm_does_not_apply_are_named(tmp_path: Path) -> None:
    given = {"no_repeat_ngram_size": 3, "suppress_tokens": [7], "max_new_tokens": 9, "top_p": 0.5, "eos_token_id": 9}
    assert note_on(folder(tmp_path, given)) == (
        "vLLM does not apply max_new_tokens, no_repeat_ngram_size, suppress_tokens of its generation_config.json"
    )


@pytest.mark.parametrize(
    "name", ["chat_template.json", "processor_config.json", "additional_chat_templates/tool_use.jinja"]
)
def test_every_file_that_a_template_may_come_from_counts(tmp_path: Path, name: str) -> None:
    path = folder(tmp_path, None)
    before = files_digest(path)
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_text(json.dumps({"chat_template": "{{ messages }}"}))
    assert answering_digest(path, path) is not None and files_digest(path) != before


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_number_that_is_not_finite_is_found(tmp_path: Path, dtype: torch.dtype, value: float) -> None:
    fine = torch.full((300, 7), torch.finfo(dtype).max, dtype=dtype)
    broken = fine.clone()
    broken[211, 3] = value
    save_file({"a": fine, "b": torch.arange(9)}, tmp_path / "fine.safetensors")
    save_file({"a": fine, "z": broken}, tmp_path / "broken.safetensors")
    assert first_non_finite([tmp_path / "fine.safetensors"]) is None
    assert first_non_finite([tmp_path / "fine.safetensors", tmp_path / "broken.safetensors"]) == "z"


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_eight_bits_too(tmp_path: Path, dtype: torch.dtype) -> None:
    every = torch.from_numpy(np.arange(256, dtype=np.uint8)).view(dtype)
    fine = every[torch.isfinite(every.float())].clone()
    save_file({"a": fine}, tmp_path / "fine.safetensors")
    save_file({"a": every}, tmp_path / "broken.safetensors")
    assert first_non_finite([tmp_path / "fine.safetensors"]) is None
    assert first_non_finite([tmp_path / "broken.safetensors"]) == "a"


def test_a_saved_mask_may_hold_minus_infinity(tmp_path: Path) -> None:
    save_file({"layers.0.causal_mask": torch.full((4, 4), -float("inf"))}, tmp_path / "m.safetensors")
    assert first_non_finite([tmp_path / "m.safetensors"]) is None
