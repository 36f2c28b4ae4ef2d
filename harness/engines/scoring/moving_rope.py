"""Rotary frequencies that depend on the length of a forward pass (`rope_type: dynamic`, "dynamic NTK") and stay in the model after it.

A sequence by itself is read with the frequencies of its own length. So the model's original frequencies are restored before each
pass, and sequences longer than the model was trained on share a pass only with others of the same length.
"""

from __future__ import annotations

from typing import Any

from harness.engines.scoring.structure import text_config

KIND = "dynamic"


def own_frequencies_beyond(model: Any) -> int | None:
    """Tokens of a sequence beyond which its frequencies are its own; None for a model whose frequencies do not move."""
    return min((int(module.original_max_seq_len) for module in _moving(model)), default=None)


def settle(model: Any) -> None:
    """Restore the frequencies that the model was built with."""
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
