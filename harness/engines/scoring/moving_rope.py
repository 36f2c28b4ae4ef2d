"""Rotary frequencies that depend on how long a pass is (`rope_type: dynamic`, "dynamic NTK"), and stay in the model after it.

A sequence by itself is read with those of its own length. So before each pass what an earlier one left is taken back, and
beyond the length that the model was trained on, sequences of one length only share a pass.
"""

from __future__ import annotations

from typing import Any

from harness.engines.scoring.structure import text_config

KIND = "dynamic"


def own_frequencies_beyond(model: Any) -> int | None:
    """Tokens of a sequence beyond which its frequencies are its own; None for a model whose frequencies do not move."""
    return min((int(module.original_max_seq_len) for module in _moving(model)), default=None)


def settle(model: Any) -> None:
    """Frequencies as they were when the model was built."""
    for module in _moving(model):
        for name, original in list(module.named_buffers(recurse=False)):
            if name.endswith("original_inv_freq"):
                module.register_buffer(name.replace("original_", ""), original.clone(), persistent=False)
        for name in list(vars(module)):
            if name.endswith("max_seq_len_cached"):
                setattr(module, name, module.original_max_seq_len)


def _moving(model: Any) -> list[Any]:
    settings = getattr(text_config(model), "rope_parameters", None)
    if KIND not in str(settings):
        return []
    return [
        module for module in model.modules() if hasattr(module, "original_max_seq_len") and hasattr(module, "rope_type")
    ]
