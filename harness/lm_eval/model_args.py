"""Which model a result file of lm-eval is of, by its model_args. Pure functions of text and mappings.

Two files are of one model if every argument that may change a number is the same, in either form (a mapping, or `a=b,c=d`).
Arguments of how it was run (batches, devices, retries) do not count.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NAMES = ("pretrained", "model", "path", "engine")
"""Arguments that name the model itself; the first that is set counts."""
WEIGHTS = ("peft", "delta", "lora_local_path", "adapter", "revision", "subfolder", "gguf_file")
"""Arguments that change its weights: always part of its label."""
OF_THE_RUN = frozenset(
    [
        *("batch_size", "max_batch_size", "device", "device_map", "device_map_option", "parallelize", "offload_folder"),
        *("max_memory_per_gpu", "max_cpu_memory", "low_cpu_mem_usage", "tp_plan", "tensor_parallel_size"),
        *("data_parallel_size", "pipeline_parallel_size", "gpu_memory_utilization", "swap_space", "cpu_offload_gb"),
        *("max_num_seqs", "max_num_batched_tokens", "enforce_eager", "disable_log_stats", "num_concurrent"),
        *("max_retries", "timeout", "max_concurrency", "request_timeout", "attempts", "logits_cache", "cache_dir"),
        *("download_dir", "trust_remote_code", "verify_certificate", "seed", "local_files_only", "use_cache"),
        *("token", "hf_token", "use_auth_token", "auth_token", "header"),
    ]
)
_SECRET = ("api_key", "secret", "password")
_DEFAULTS = {
    "revision": "main",
    "dtype": "auto",
    "backend": "default",
    "use_fast_tokenizer": "true",
    **dict.fromkeys(("load_in_8bit", "load_in_4bit", "autogptq", "gptqmodel", "truncation"), "false"),
}
_ALIASES = {"torch_dtype": "dtype"}
_DTYPES = {"half": "float16", "float": "float32", "double": "float64"}
"""Torch's other names of its types."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model: its name, and the arguments that distinguish it from others of that name, sorted."""

    name: str
    arguments: tuple[tuple[str, str], ...] = ()


def model_of(arguments: Any, otherwise: str) -> Model:
    """The model that model_args (text or a mapping) describe; `otherwise` is its name where they name none."""
    given = {_ALIASES.get(key, key): _plain(value) for key, value in _parsed(arguments).items()}
    if "dtype" in given:
        given["dtype"] = _DTYPES.get(given["dtype"], given["dtype"])
    name_key = next((key for key in NAMES if given.get(key)), None)
    name = given[name_key] if name_key else otherwise
    told = {
        key: value
        for key, value in given.items()
        if value not in ("", "none", _DEFAULTS.get(key))
        and key != name_key
        and key not in OF_THE_RUN
        and not any(word in key for word in _SECRET)
    }
    if told.get("tokenizer") == name:
        del told["tokenizer"]
    return Model(name, tuple(sorted(told.items())))


def labels(models: Sequence[Model]) -> dict[Model, str]:
    """A unique label for each model: its name, arguments of its weights, and others that distinguish it from models of that name."""
    found = {}
    for model in models:
        others = [other for other in models if other.name == model.name and other != model]
        shown = [
            (key, value)
            for key, value in model.arguments
            if key in WEIGHTS or any(dict(other.arguments).get(key) != value for other in others)
        ]
        order = sorted(
            shown, key=lambda pair: (WEIGHTS.index(pair[0]) if pair[0] in WEIGHTS else len(WEIGHTS), pair[0])
        )
        found[model] = ", ".join([model.name, *(f"{key}={value}" for key, value in order)])
    return found


def _parsed(arguments: Any) -> Mapping[str, Any]:
    if isinstance(arguments, Mapping):
        return {str(key): value for key, value in arguments.items()}
    if isinstance(arguments, list):
        return {key: value for part in arguments for key, value in _parsed(part).items()}
    if not isinstance(arguments, str):
        return {}
    if arguments.lstrip().startswith("{"):
        try:
            value = json.loads(arguments)
        except (ValueError, RecursionError):
            return {"model_args": arguments}  # not parsed, but equal texts are still the same model
        return value if isinstance(value, dict) else {"model_args": arguments}
    found: dict[str, str] = {}
    for part in _split(arguments):
        key, is_given, value = (piece.strip() for piece in part.partition("="))
        if is_given and key:
            found[key] = value
        elif key and found:  # a comma inside a value
            found[next(reversed(found))] += f", {key}"
    return found


def _split(text: str) -> list[str]:
    """The parts between commas that stand outside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "{[(") - (character in ")]}")
        if character == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _plain(value: Any) -> str:
    """A value as text, the same for both ways of writing model_args."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return _plain(json.loads(value))
        except (ValueError, RecursionError):
            pass
    if isinstance(value, Mapping | list):
        return json.dumps(value, sort_keys=True)
    text = str(value).strip().removeprefix("torch.")
    return text.lower() if text.lower() in ("true", "false", "none") else text
