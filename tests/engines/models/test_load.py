"""What a model and a tokenizer are known by: device, context length, dtype, digest, wrappers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import AutoTokenizer

from harness.core.errors import EngineError, SpecError
from harness.engines.models.live import saved_config, unwrap
from harness.engines.models.load import (
    choose_device,
    context_length,
    dtype_name,
    first_non_finite,
    load_tokenizer,
)
from harness.engines.models.tokenizer_identity import tokenizer_digest


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", ""])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(SpecError, match=r"is not available here .*; use cpu or auto"):
        choose_device(device)


def test_the_context_is_the_configurations_then_the_tokenizers_then_2048() -> None:
    tokenizer = tiny.tokenizer()
    assert context_length(tiny.family("llama"), tokenizer) == 1024
    assert context_length(tiny.family("gpt2", n_positions=77), tokenizer) == 77
    assert context_length(tiny.family("bloom"), tokenizer) == 2048
    tokenizer.model_max_length = 99
    assert context_length(tiny.family("bloom"), tokenizer) == 99


def test_the_first_broken_weight_is_named() -> None:
    model = tiny.llama()
    assert first_non_finite(model) is None
    with torch.no_grad():
        model.model.norm.weight[3] = float("inf")
        model.lm_head.weight[0, 0] = float("nan")
    assert first_non_finite(model) == "model.norm.weight"


def test_dtype_names_are_those_of_a_spec() -> None:
    assert [dtype_name(tiny.llama().to(dtype)) for dtype in (torch.float32, torch.bfloat16)] == ["float32", "bfloat16"]


# Tokenizers


def test_a_tokenizers_digest_survives_saving_loading_and_use(tmp_path: Path) -> None:
    live = tiny.tokenizer()
    before = tokenizer_digest(live)
    live("a longer text than two tokens", truncation=True, max_length=2)
    assert tokenizer_digest(live) == before
    live.save_pretrained(tmp_path)
    assert tokenizer_digest(load_tokenizer(tmp_path)) == before
    again = AutoTokenizer.from_pretrained(tmp_path)
    again.save_pretrained(tmp_path / "again")
    assert tokenizer_digest(load_tokenizer(tmp_path / "again")) == before


def test_what_changes_token_ids_or_conversations_changes_the_digest() -> None:
    kinds = [
        tiny.tokenizer(),
        tiny.tokenizer(bos=False),
        tiny.tokenizer(chat_template=None),
        tiny.tokenizer(vocab_size=380),
    ]
    added = tiny.tokenizer()
    added.add_tokens(["zebra"])
    assert len({tokenizer_digest(tokenizer) for tokenizer in [*kinds, added]}) == 5


# Wrappers


class DistributedDataParallel(torch.nn.Module):
    """Looks like the data-parallel wrapper; the real one needs a process group."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module


def test_wrappers_come_off_in_any_order() -> None:
    model = tiny.llama()
    for wrapped in (
        model,
        torch.compile(model),
        torch.nn.DataParallel(model),
        DistributedDataParallel(torch.compile(model)),
        torch.compile(DistributedDataParallel(model)),
    ):
        assert unwrap(wrapped) is model


def test_a_module_without_a_configuration_is_named() -> None:
    with pytest.raises(EngineError, match="Linear has no transformers configuration"):
        saved_config(torch.nn.Linear(1, 1))
