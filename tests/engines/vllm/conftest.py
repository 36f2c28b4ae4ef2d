"""Checkpoints for the tests of a real server, made once: a model that calls tools, others of its architecture, adapters."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file


@pytest.fixture(scope="session")
def tools() -> Path:
    """A checkpoint that calls the tools of tau2's mock domain."""
    from tool_model import trained

    return trained()


@pytest.fixture(scope="session")
def family(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with checkpoints of one architecture: `tools`, `noisy` (other weights), `nan`, and adapters `one`, `two` over `tools`."""
    import tiny
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("family")
    shutil.copytree(tools, folder / "tools")
    for name in ("noisy", "nan"):
        shutil.copytree(tools, folder / name)
        weights = load_file(folder / name / "model.safetensors")
        generator = torch.Generator().manual_seed(7)
        for key, tensor in weights.items():
            if name == "noisy":
                weights[key] = tensor + 0.02 * torch.randn(tensor.shape, generator=generator)
            elif key.endswith("norm.weight"):
                weights[key] = torch.full_like(tensor, float("nan"))
        save_file(weights, folder / name / "model.safetensors", metadata={"format": "pt"})
    for seed, name in enumerate(("one", "two")):
        base = AutoModelForCausalLM.from_pretrained(folder / "tools")
        tiny.save_adapter(folder / name, tiny.lora(base, seed=seed), folder / "tools")
    yield folder
