"""Checks by its configuration, before a server is started, whether vLLM can load a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

from harness.core.errors import CheckpointError
from harness.core.serving import Servable, ServeSettings
from harness.engines.vllm.command import rank_room
from harness.engines.vllm.layout import adapter_rank, is_stretched, own_length, read_json

PLAIN_STARTS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
"""Initialisations of a LoRA adapter that do not change its base, so that a saved one is a plain adapter."""
UNSUPPORTED: tuple[tuple[str, str], ...] = (
    ("use_dora", "DoRA (use_dora)"),
    ("trainable_token_indices", "trainable tokens (trainable_token_indices)"),
    ("lora_bias", "a bias of the LoRA matrices (lora_bias)"),
    ("alora_invocation_tokens", "activated LoRA (alora_invocation_tokens)"),
    ("layer_replication", "layer_replication"),
    ("use_bdlora", "block-diagonal LoRA (use_bdlora)"),
    ("use_qalora", "QALoRA (use_qalora)"),
    ("arrow_config", "Arrow (arrow_config)"),
)
"""Key of adapter_config.json that has to be empty -> what it stands for."""


def check_adapter(folder: Path) -> None:
    """Refuse an adapter that vLLM cannot load. Raises CheckpointError saying why."""
    config = read_json(folder / "adapter_config.json")
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise CheckpointError(f"{folder}: vLLM serves LoRA adapters, and this is {kind}; merge it into its base")
    found = [words for key, words in UNSUPPORTED if config.get(key)]
    saved = config.get("modules_to_save")
    if saved:
        found.append(f"whole modules saved beside it (modules_to_save: {', '.join(map(str, saved))})")
    if config.get("bias", "none") != "none":
        found.append(f"biases of its base (bias: {config['bias']})")
    start = config.get("init_lora_weights", True)
    if isinstance(start, str) and start.lower() not in PLAIN_STARTS:
        found.append(f"a base that was changed at its start (init_lora_weights: {start})")
    if found:
        raise CheckpointError(
            f"{folder} cannot be served: vLLM loads no adapters with {', nor with '.join(found)}; merge it into its base"
        )
    needed = adapter_rank(folder)
    if rank_room(needed) is None:
        raise CheckpointError(f"{folder}: vLLM serves no adapters of rank {needed}; merge it into its base")


LONGER = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
"""vLLM's variable for those who want more than a model has."""


def check_length(model: Path, settings: ServeSettings) -> None:
    """Refuse a context that is longer than the model's own, as vLLM does once it is up. Raises CheckpointError."""
    asked = settings.max_model_len
    if asked is None or settings.env.get(LONGER, os.environ.get(LONGER, "0")) not in ("0", ""):
        return
    own = own_length(model)
    if own is None or asked <= own or is_stretched(model):
        return
    raise CheckpointError(
        f"serve.max_model_len is {asked}, and {model} has a context of {own} tokens by its configuration; give {own} or less"
    )


def check_loadable(wanted: Servable) -> None:
    """Refuse what vLLM cannot load. Raises CheckpointError."""
    read_json(wanted.model / "config.json")
    if wanted.adapter is not None:
        check_adapter(wanted.adapter)
