"""Which checkpoints can take each other's place on a running server: the files beside the weights, compared. No weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from harness.core.digest import digest_json
from harness.core.errors import CheckpointError
from harness.core.serving import Servable

VOLATILE = {"_name_or_path", "transformers_version", "_commit_hash", "use_cache"}


def layout(servable: Servable) -> str:
    """Equal for models whose weights can be copied into each other on a server: configuration, default sampling, tokenizer."""
    config = {key: value for key, value in _json(servable.model / "config.json").items() if key not in VOLATILE}
    sampling = servable.model / "generation_config.json"
    defaults = {k: v for k, v in _json(sampling).items() if k not in VOLATILE} if sampling.exists() else None
    return digest_json([config, defaults, servable.tokenizer_digest])


def is_quantized(folder: Path) -> bool:
    """Whether the weights are saved in a form that is converted while loading, so that others cannot be copied in."""
    return bool(_json(folder / "config.json").get("quantization_config"))


def saved_dtype(folder: Path) -> str | None:
    """The dtype that config.json names, where vLLM has it."""
    config = _json(folder / "config.json")
    inner = config.get("text_config")
    inner = inner if isinstance(inner, dict) else {}
    found = config.get("dtype") or config.get("torch_dtype") or inner.get("dtype") or inner.get("torch_dtype")
    return found if found in ("float32", "bfloat16", "float16") else None


def adapter_rank(folder: Path) -> int:
    """The largest rank of an adapter's matrices. Raises CheckpointError."""
    config = _json(folder / "adapter_config.json")
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    if not all(isinstance(rank, int) and rank > 0 for rank in ranks):
        raise CheckpointError(f"{folder / 'adapter_config.json'} names no rank r; vLLM serves LoRA adapters only")
    return int(max(ranks))


def adapter_name(servable: Servable) -> str:
    """What requests call an adapter."""
    return f"adapter-{hashlib.sha256(servable.fingerprint.encode()).hexdigest()[:12]}"


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return value
