"""A model in memory, described as the folder it would be saved to: names, tensors, configuration. Changes nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch

from harness.core.errors import EngineError

TensorLine = tuple[str, str, list[int], str]
"""Name, safetensors dtype, shape, sha256 of the bytes."""

THREADS = 4
WRAPPERS = ("DataParallel", "DistributedDataParallel")
DTYPE_CODES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}
"""safetensors' names of element types."""


class AdapterState(NamedTuple):
    """A PEFT model taken apart: what its adapter folder and its base's folder would hold."""

    tensors: list[TensorLine]
    config: dict[str, Any]
    base_tensors: list[TensorLine]
    base_config: dict[str, Any]


def unwrap(model: Any) -> Any:
    """The model inside torch.compile and data-parallel wrappers."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__ in WRAPPERS:
            inner = model.module
        if inner is None:
            return model
        model = inner


def saved_config(model: Any) -> dict[str, Any]:
    """What `config.json` would hold. Raises EngineError for a module without a transformers configuration."""
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "to_json_string"):
        raise EngineError(
            f"{type(model).__name__} has no transformers configuration; pass the causal language model itself"
        )
    value: dict[str, Any] = json.loads(config.to_json_string())
    dtype = getattr(model, "dtype", None)
    if isinstance(dtype, torch.dtype):  # as `save_pretrained` would write it, not as it was loaded
        value["dtype"] = str(dtype).removeprefix("torch.")
    return value


def saved_tensors(model: Any, state: Mapping[str, torch.Tensor] | None = None) -> list[TensorLine]:
    """Every weight that `save_pretrained` would write, under the name it would have there, tied ones once."""
    state = model.state_dict() if state is None else state
    ignored = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    kept = {
        name: tensor
        for name, tensor in state.items()
        if name not in ignored and not _is_copy(tensor, state.get(tied.get(name, "")))
    }
    return list(_lines(_names_on_disk(model, kept)))


def adapter_state(model: Any) -> AdapterState | None:
    """The adapter and base of a PEFT model with one active, unmerged adapter; None for any other model."""
    status = _peft_status(model)
    if status is None or status["enabled"] is not True or status["merged"] or len(status["active"]) != 1:
        return None
    from peft import get_peft_model_state_dict
    from peft.utils.other import EMBEDDING_LAYER_NAMES

    name = status["active"][0]
    base = model.get_base_model()
    targets = getattr(model.peft_config[name], "target_modules", None) or ()
    # As peft does when it saves, except that it also asks the hub whether the vocabulary was extended.
    embeddings = not isinstance(targets, str) and any(target in EMBEDDING_LAYER_NAMES for target in targets)
    adapter = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=embeddings)
    own = getattr(model.base_model, "prefix", "lora_")
    weights = {
        key.replace(".base_layer.", ".").replace(".original_module.", "."): tensor
        for key, tensor in base.state_dict().items()
        if ".modules_to_save." not in key and not any(part.startswith(own) for part in key.split("."))
    }
    config = json.loads(json.dumps(model.peft_config[name].to_dict(), default=_plain))
    return AdapterState(list(_lines(adapter)), config, saved_tensors(base, weights), saved_config(base))


def tuner_state(model: Any) -> dict[str, Any]:
    """Which adapters of a PEFT model act on its output; empty for a model without."""
    return _peft_status(model) or {}


def _peft_status(model: Any) -> dict[str, Any] | None:
    if not hasattr(model, "get_model_status") or not hasattr(model, "peft_config"):
        return None
    status = model.get_model_status()
    return {"enabled": status.enabled, "active": list(status.active_adapters), "merged": list(status.merged_adapters)}


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set | frozenset) else str(value)


def _is_copy(tensor: torch.Tensor, source: torch.Tensor | None) -> bool:
    return source is not None and source.data_ptr() == tensor.data_ptr()


def _names_on_disk(model: Any, state: dict[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """The weights as saved: transformers renames, splits and joins those of some architectures."""
    from transformers import PreTrainedModel
    from transformers.core_model_loading import revert_weight_conversion

    if not isinstance(model, PreTrainedModel):
        return state
    converted: Mapping[str, torch.Tensor] = revert_weight_conversion(model, state)
    return converted


def _lines(state: Mapping[str, torch.Tensor]) -> Iterator[TensorLine]:
    """In order, several in parallel, so that copying from a GPU overlaps with hashing."""
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        yield from pool.map(lambda item: _line(*item), state.items())


def _line(name: str, tensor: torch.Tensor) -> TensorLine:
    data = tensor.detach().cpu().contiguous()
    raw: Any = data.reshape(-1).view(torch.uint8).numpy() if data.numel() else b""
    code = DTYPE_CODES.get(tensor.dtype, str(tensor.dtype))
    return name, code, list(tensor.shape), hashlib.sha256(raw).hexdigest()
