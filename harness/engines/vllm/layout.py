"""Which checkpoints can replace each other on a running server: compares the files other than the weights."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from harness.core.digest import digest_json
from harness.core.errors import CheckpointError
from harness.core.serving import Servable

LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "n_ctx")
"""Keys of a configuration that may give the context length."""
VOLATILE = {"_name_or_path", "transformers_version", "_commit_hash", "use_cache"}


def layout(servable: Servable) -> str:
    """Equal for models between which a server can reload weights: digest of configuration and code, default sampling, tokenizer."""
    config = {key: value for key, value in read_json(servable.model / "config.json").items() if key not in VOLATILE}
    sampling = servable.model / "generation_config.json"
    defaults = {k: v for k, v in read_json(sampling).items() if k not in VOLATILE} if sampling.exists() else None
    code = sorted(servable.model.glob("*.py")) if "auto_map" in config else []
    return digest_json([config, defaults, servable.tokenizer_digest, *([[p.name, _digest(p)] for p in code])])


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def identity(servable: Servable) -> str:
    """Equal for checkpoints that answer alike: digest of the weights, and of every other file that decides an answer."""
    return digest_json([servable.fingerprint, layout(servable)])


def is_quantized(folder: Path) -> bool:
    """Whether the weights are converted while loading, so that others cannot be reloaded into the model."""
    return bool(read_json(folder / "config.json").get("quantization_config"))


def saved_dtype(folder: Path) -> str | None:
    """The dtype that config.json names; None without one, or where vLLM does not have it."""
    config = read_json(folder / "config.json")
    inner = config.get("text_config")
    inner = inner if isinstance(inner, dict) else {}
    found = config.get("dtype") or config.get("torch_dtype") or inner.get("dtype") or inner.get("torch_dtype")
    return found if found in ("float32", "bfloat16", "float16") else None


def own_length(folder: Path) -> int | None:
    """Tokens of a model's context by its configuration, including an extension by rope scaling; None where it does not say."""
    config = read_json(folder / "config.json")
    inner = config.get("text_config")
    for part in (inner if isinstance(inner, dict) else {}, config):
        length = next((part[key] for key in LENGTHS if isinstance(part.get(key), int) and part[key] > 0), None)
        if length is None:
            continue
        scaling = part.get("rope_scaling") or part.get("rope_parameters")
        factor = scaling.get("factor") if isinstance(scaling, dict) and scaling.get("rope_type") != "default" else None
        began = scaling.get("original_max_position_embeddings") if isinstance(scaling, dict) else None
        if isinstance(factor, int | float) and math.isfinite(factor) and factor > 1 and began in (None, length):
            return int(length * factor)
        return int(length)
    return None


def is_stretched(folder: Path) -> bool:
    """Whether a model's positions are scaled for texts longer than it was trained on."""
    config = read_json(folder / "config.json")
    inner = config.get("text_config")
    scalings = [
        part.get(key)
        for part in (config, inner)
        if isinstance(part, dict)
        for key in ("rope_scaling", "rope_parameters")
    ]
    return any(
        isinstance(one, dict) and one.get("rope_type", one.get("type", "default")) != "default" for one in scalings
    )


def cut_length(folder: Path, length: int | None) -> int | None:
    """The tokens of a model's own context if a server's `length` is less; else None."""
    own = own_length(folder)
    return own if own is not None and length is not None and length < own else None


def adapter_rank(folder: Path) -> int:
    """The largest rank of an adapter's matrices. Raises CheckpointError."""
    config = read_json(folder / "adapter_config.json")
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    if not all(isinstance(rank, int) and rank > 0 for rank in ranks):
        raise CheckpointError(f"{folder / 'adapter_config.json'} names no rank r; vLLM serves LoRA adapters only")
    return int(max(ranks))


def adapter_name(servable: Servable) -> str:
    """What requests call an adapter."""
    return f"adapter-{hashlib.sha256(servable.fingerprint.encode()).hexdigest()[:12]}"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint's folder. Raises CheckpointError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return value
