"""Checks the names, types and shapes of a model's weights as loading would, without reading them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from harness.core.opening import OpenOptions
from harness.engines.models.load import load_model
from harness.engines.models.places import check_names, check_types
from harness.engines.models.weights import Weights


def dry_load(folder: Path, files: Sequence[Path], *, trust_remote_code: bool = False) -> None:
    """Raises CheckpointError as loading would. `files`: the folder's safetensors files. Pickled weights are not checked, and of
    quantised ones only types and the configuration.
    """
    if not files:
        return
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = Weights(files)
    check_types(folder, weights.layout, config)
    if config.get("quantization_config"):
        return
    model = load_model(folder, OpenOptions(trust_remote_code=trust_remote_code), device=torch.device("meta"))
    check_names(folder, weights.layout, getattr(model, "base_model_prefix", ""))
