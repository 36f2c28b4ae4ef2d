"""Whether what a folder holds is what would be scored: every tensor has a place in the model, and every type is read correctly."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.core.errors import CheckpointError
from harness.engines.models.weights import Layout

HARMLESS = {
    r"(^|\.)rotary_(pos_)?emb\.(inv_freq|cos_cached|sin_cached)$": "rotary frequencies, computed from the configuration",
    r"(^|\.)inv_freq$": "rotary frequencies, computed from the configuration",
    r"(^|\.)(attn|attention)\.(masked_)?bias$": "causal masks that GPT-2 and GPT-NeoX used to save",
    r"(^|\.)position_ids$": "row numbers",
    r"(^|\.)(mtp(_[a-z_]+)?|nextn|eh_proj|shared_head|enorm|hnorm|medusa_head)(\.|$)": "heads that predict further tokens ahead",
    r"(^|\.)(v_head|value_head|reward_head|critic_head)\.|^score\.(weight|bias)$": "value heads of reinforcement learning",
    r"(^|\.)(k|v|kv|q|prob)_scale$": "scales of a cache of keys in 8 bits, which is not used here",
    r"(^|\.)decoder\.version$": "a number that fairseq wrote",
    r"(^|\.)(vision_tower|vision_model|visual|multi_modal_projector|mm_projector|audio_tower|embed_vision|embed_audio)\.": (
        "parts that read images or sound, which a text does not use"
    ),
    r"(^|\.)num_batches_tracked$": "a counter",
}
"""Names of tensors without a place that change no score of a text, and what they are."""
MARK = r"layers\.(\d+)\.(.*\.)?(eh_proj|enorm|hnorm|shared_head|mtp\w*|nextn\w*)\."
"""Names of tensors that only a layer for predicting further tokens ahead has; group 1 is the number of the layer."""
ADAPTED = r"(^|[._])lora_|\.(hada_|oft_|ia3_|lokr_)"
"""Parts of the names of an adapter's tensors, which are never harmless."""
AHEAD = ("num_nextn_predict_layers", "mtp_num_layers", "num_mtp_layers", "mtp_num_hidden_layers")
"""Keys of a configuration that count layers, saved behind the others, for further tokens ahead."""
QUANTISED = ("F8_", "F4", "F6", "I8", "U8")
"""Prefixes of element types of quantised weights, which need scales from elsewhere."""
INTEGERS = ("I", "U", "BOOL")
"""Prefixes of element types that a model's tables may have, but not its weights."""


def check_places(folder: Path, unexpected: Iterable[str], config: Any) -> None:
    """Refuse tensors that loading ignores and that may change scores. Raises CheckpointError."""
    names = list(unexpected)
    marked = {int(found[1]) for name in names if (found := re.search(MARK, name))}
    left = sorted(name for name in names if not _is_harmless(name, config, marked))
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        raise CheckpointError(
            f"{folder} holds tensors that have no place in its model ({left[0]}{more}), so it would be scored without them; is "
            "config.json the one it was trained with, and are adapters merged?"
        )


def check_names(folder: Path, layout: Layout, prefix: str) -> None:
    """Refuse two tensors for one place: transformers accepts names with the model's prefix and without. Raises CheckpointError."""
    twice = sorted(name for name in layout.names if prefix and f"{prefix}.{name}" in layout.names)
    if twice:
        raise CheckpointError(
            f"{folder} holds {twice[0]} and {prefix}.{twice[0]}, two tensors for one place of its model; remove those that are not meant"
        )


def _is_harmless(name: str, config: Any, marked: set[int]) -> bool:
    if re.search(ADAPTED, name):
        return False
    if any(re.search(pattern, name) for pattern in HARMLESS):
        return True
    depth = getattr(config, "num_hidden_layers", None)
    ahead = max((int(getattr(config, key, None) or 0) for key in AHEAD), default=0)
    layer = re.search(r"(^|\.)layers\.(\d+)\.", name)
    return bool(layer and depth is not None and depth <= int(layer[2]) < depth + ahead and int(layer[2]) in marked)


def check_types(folder: Path, layout: Layout, config: dict[str, Any]) -> None:
    """Refuse quantised weights without a quantization_config. Raises CheckpointError."""
    text = config.get("text_config")
    if config.get("quantization_config") or (isinstance(text, dict) and text.get("quantization_config")):
        return
    odd = sorted(
        (name, dtype)
        for name, dtype, shape in layout.tensors
        if len(shape) >= 2
        and (
            (dtype.startswith(QUANTISED) and not re.search(r"(mask|bias)$", name))
            or (dtype.startswith(INTEGERS) and re.search(r"(weight|_proj)$", name))
        )
    )
    if odd:
        raise CheckpointError(
            f"{folder} holds weights of type {odd[0][1]} ({odd[0][0]}) and its config.json has no quantization_config, so they "
            "would be read as plain numbers; restore the quantization_config, or save the weights in bfloat16"
        )
