"""What a model's structure says about scoring it in packs, whatever its weights: decoder layers, limits, obstacles.

Nothing is run here. A structure that is refused is scored by the padded path, which works for every causal model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

LIMIT_WORDS = ("window", "chunk", "position", "local", "floor_scale", "seq_len")
"""Parts of the names of configuration keys that hold a length in tokens from which a model behaves differently."""
FEWEST, MOST = 2, 2**24
"""A number outside of this range is not taken for a length in tokens."""
PLAIN_LAYERS = ("full_attention", "sliding_attention", "attention", "global", "local", "dense", "sparse", "moe")
"""Kinds of layers, as configurations name them, that mix tokens by softmax attention or not at all."""
PER_TOKEN = (
    *(
        "LORA",
        "ADALORA",
        "IA3",
        "LOHA",
        "LOKR",
        "VERA",
        "OFT",
        "BOFT",
        "HRA",
        "LN_TUNING",
        "FOURIERFT",
        "VBLORA",
        "BONE",
    ),
    *("MISS", "RANDLORA", "SHIRA", "C3A", "TRAINABLE_TOKENS", "WAVEFT", "DELORA", "ROAD", "GRALORA", "OSF", "PSOFT"),
)
"""Kinds of peft adapters that act on each token independently of the others."""
ALIBI_TYPES = ("bloom", "mpt")
"""Model types with linear biases (arXiv 2108.12409) that no key of their configuration mentions."""


def decoder_layers(model: Any) -> torch.nn.ModuleList | None:
    """The list of decoder layers: as long as the configuration says, the one with most parameters; None where there is none."""
    depth = getattr(text_config(model), "num_hidden_layers", None)
    stacks = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == depth]
    return max(stacks, key=lambda stack: sum(p.numel() for p in stack.parameters()), default=None)


def text_config(model: Any) -> Any:
    """The configuration of the language model; that of a part, where the model has several."""
    return getattr(model.config, "text_config", None) or model.config


def limits(model: Any) -> list[int]:
    """Lengths in tokens, ascending, beyond which the model may behave differently: windows, chunks, position limits."""
    found = {
        value
        for key, value in _settings(text_config(model).to_dict())
        if isinstance(value, int) and not isinstance(value, bool) and any(word in key for word in LIMIT_WORDS)
    }
    return sorted(value for value in found if FEWEST <= value <= MOST)


def short_text(model: Any) -> int | None:
    """Tokens up to which a model uses rotary frequencies for short texts (longrope; a pass uses those for its longest sequence); else None."""
    rope = getattr(text_config(model), "rope_parameters", None) or {}
    found = [part for part in (rope, *rope.values()) if isinstance(part, dict) and part.get("rope_type") == "longrope"]
    return min((int(part["original_max_position_embeddings"]) for part in found), default=None)


def obstacle(model: Any) -> str | None:
    """Why the model must not be scored in packs; None where its structure says nothing against it."""
    if not hasattr(model, "get_output_embeddings") or model.get_output_embeddings() is None:
        return "it has no output embedding"
    layers = decoder_layers(model)
    if layers is None:
        return "it has no list of decoder layers"
    for adapter in (getattr(model, "peft_config", None) or {}).values():
        kind = str(getattr(adapter.peft_type, "value", adapter.peft_type))
        if getattr(adapter, "is_prompt_learning", False):
            return "it reads virtual tokens before the text"
        if kind not in PER_TOKEN or getattr(adapter, "alora_invocation_tokens", None):
            return f"its adapter ({kind}) may act on a token by what stands beside it"
    if any(getattr(type(module), "_is_stateful", False) is True for module in model.modules()):
        return "it carries a state from token to token"
    for module in layers.modules():
        if isinstance(module, torch.nn.Conv1d | torch.nn.RNNBase):
            return f"its layers mix tokens by a {type(module).__name__}"
    settings = dict(_settings(text_config(model).to_dict()))
    kinds = {
        str(kind)
        for key in ("layer_types", "layers_block_type")
        for kind in (getattr(text_config(model), key, None) or ())
    }
    strange = sorted(kind for kind in kinds if not any(word in kind for word in PLAIN_LAYERS) or "linear" in kind)
    if strange:
        return f"it has layers of the kind {strange[0]}"
    if text_config(model).model_type in ALIBI_TYPES or any(
        "alibi" in f"{k} {v}".lower() and v for k, v in settings.items()
    ):
        return "its attention is biased by distance (ALiBi)"
    if settings.get("attn_temperature_tuning"):
        return "its attention is scaled by the number of a token's row"
    if settings.get("attention_chunk_size"):
        return "transformers makes its mask, of chunks"
    return None


def _settings(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Keys and values of a configuration, those of parts included."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _settings({str(k): v for k, v in item.items()})
        else:
            yield str(key), item
