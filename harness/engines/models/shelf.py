"""Models kept between the checkpoints of a sweep: the cost of one more is reading its weights, not building a model.

The weights of a full model are read into the loaded one if configuration and layout are the same; an adapter's replace those of one
with the same configuration and layout, over the same base files. Unless the result is certain to be bit-identical to a fresh load,
the model is loaded afresh.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from harness.core.errors import CheckpointError
from harness.core.file_identity import Identities, identities
from harness.core.opening import OpenOptions
from harness.engines.models.load import explain, load_adapter, load_model, release
from harness.engines.models.places import check_names, check_types
from harness.engines.models.staging import Staging
from harness.engines.models.weights import Layout, Weights

ADAPTER = "adapter_model.safetensors"
VOLATILE = {"_name_or_path", "transformers_version"}
FLOATING = ("F", "BF")
"""Prefixes of element types that a model can be loaded in."""
VOLATILE_ADAPTER = {"base_model_name_or_path", "revision", "inference_mode", "auto_mapping", "peft_version"}
PLAIN_LORA = {
    "peft_type": ("LORA",),
    "init_lora_weights": (True, False, "gaussian"),
    "bias": ("none",),
    **dict.fromkeys(
        (
            *("task_type", "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "fan_in_fan_out"),
            *("use_rslora", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "megatron_core"),
            *("qalora_group_size",),
        ),
        None,
    ),
}
"""Keys of adapter_config.json that a LoRA may have to be swapped in place, with the values they may have (None: any).

Anything else (initialisations that change the base, biases, saved modules, DoRA, another kind of adapter, ...) may change the base or
be computed from it.
"""
LARGE = 2**26
"""Bytes of a model from which dropping it runs the garbage collector at once."""
MOVING_ROPE = ("dynamic", "longrope")
"""Kinds of rotary embeddings whose frequencies a forward pass changes in the model."""


class _Kept(NamedTuple):
    """What the kept model was loaded from, apart from its weights: one with an equal record can be read into it."""

    configuration: str
    layout: Layout
    base: Identities | None = None
    """The base's files, for an adapter."""


class Shelf:
    """At most one model, on one device, loaded with one set of options.

    `staging` holds the next one's weights; on a GPU there is one by default.
    """

    def __init__(self, options: OpenOptions, *, device: torch.device, staging: Staging | None = None) -> None:
        self._options = options
        self._device = device
        self._model: Any = None
        self._kept: _Kept | None = None
        self._buffers: dict[str, torch.Tensor] = {}
        """Copies of the kept model's buffers, made when it was loaded."""
        self.staging = staging or (Staging(device) if device.type == "cuda" else None)

    def full(self, folder: Path, files: Sequence[Path]) -> Any:
        """The model of a folder whose safetensors files are `files`. Raises CheckpointError or EngineError."""
        weights = Weights(files) if files else None
        configuration = _configuration(folder)
        if weights is not None:
            check_types(folder, weights.layout, _read_json(folder / "config.json"))
        same_code = not (self._options.trust_remote_code and _has_code(folder))
        certain = weights is not None and _dtype_is_certain(folder, weights.layout)
        kept = _Kept(configuration, weights.layout) if weights and configuration and same_code and certain else None
        if kept is not None and self._kept == kept and weights is not None and weights.unique:
            try:
                self._read_in(folder, weights)
                return self._model
            except _UnlikeError:
                pass
        self.clear()
        self._model = load_model(folder, self._options, device=self._device)
        if weights is not None:
            check_names(folder, weights.layout, getattr(self._model, "base_model_prefix", ""))
        self._keep(kept)
        return self._model

    def adapted(self, base: Path, base_files: Sequence[Path], adapter: Path) -> Any:
        """The model of a base folder, whose safetensors files are `base_files`, under an adapter.

        Raises CheckpointError or EngineError.
        """
        configuration, file = _adapter_configuration(adapter), adapter / ADAPTER
        kept = None
        same_code = not (self._options.trust_remote_code and _has_code(base))
        if configuration and _configuration(base) and same_code and base_files and file.exists():
            kept = _Kept(configuration, Weights([file]).layout, identities([base / "config.json", *base_files]))
        if kept is not None and self._kept == kept:
            try:
                self._swap_in(adapter, file)
                return self._model
            except _UnlikeError:
                pass
        if base_files:
            check_types(base, Weights(base_files).layout, _read_json(base / "config.json"))
        self.clear()
        self._model = load_adapter(load_model(base, self._options, device=self._device), adapter)
        self._keep(kept)
        return self._model

    def _keep(self, kept: _Kept | None) -> None:
        self._kept = kept
        self._buffers = {name: buffer.clone() for name, buffer in self._model.named_buffers()} if kept else {}

    def expect(self, files: Sequence[Path]) -> None:
        """Hint that a full model of these safetensors files is loaded next."""
        if self.staging is not None and files:
            self.staging.expect(files)

    def clear(self) -> None:
        """Free the memory of the model and of staged weights."""
        if self.staging is not None:
            self.staging.clear()
        if self._model is not None:
            large = sum(parameter.nbytes for parameter in self._model.parameters()) > LARGE
            self._model, self._kept, self._buffers = None, None, {}
            if large:
                release()

    def _read_in(self, folder: Path, weights: Weights) -> None:
        """Read a folder's weights into the model. Raises _UnlikeError where one has no place of its own there."""
        state = self._model.state_dict()
        names = weights.layout.names
        places = {name: state[name].data_ptr() for name in names if name in state}
        saved = set(places.values())
        fits = (
            names <= state.keys()
            and len(saved) == len(names)
            and all(name in names or tensor.data_ptr() in saved for name, tensor in state.items())
            and all(tuple(state[name].shape) == shape for name, _, shape in weights.layout.tensors)
        )
        if not fits:
            raise _UnlikeError
        nothing = contextlib.nullcontext(None)
        try:
            with torch.no_grad():
                with self.staging.taken(weights.files) if self.staging is not None else nothing as staged:
                    if staged is None:
                        weights.read_into(state)
                    else:
                        for name, tensor in staged:
                            target = state[name]
                            if tensor.dtype != target.dtype:  # copied as it is, then converted on the GPU
                                tensor = tensor.to(target.device, non_blocking=True)
                            target.copy_(tensor, non_blocking=True)
                self._restore_buffers(saved)
        except Exception as error:
            self.clear()
            raise CheckpointError(f"cannot load the model in {folder}: {explain(error)}") from error

    def _restore_buffers(self, read: set[int]) -> None:
        """Restore buffers that a forward pass may have changed. `read`: data pointers of those that were just read from files."""
        for name, buffer in self._model.named_buffers():
            before = self._buffers.get(name)
            if buffer.data_ptr() not in read and before is not None:
                buffer.copy_(before)

    def _swap_in(self, adapter: Path, file: Path) -> None:
        """Read another adapter's weights in the place of the one before, whose names and shapes are the same.

        Raises _UnlikeError where one has no place.
        """
        try:
            weights = Weights([file])
            places = _adapter_places(self._model, weights.layout.names)
            with torch.no_grad():
                weights.read_into(places)
                self._restore_buffers(set())
        except _UnlikeError:
            raise
        except Exception as error:
            self.clear()
            raise CheckpointError(f"cannot load the adapter in {adapter} on its base: {explain(error)}") from error


class _UnlikeError(Exception):
    """The weights have no places of their own in the kept model."""


def _adapter_places(model: Any, names: set[str]) -> dict[str, torch.Tensor]:
    """Name on disk -> parameter of the model's adapter. Raises _UnlikeError."""
    adapter = model.active_adapter
    state = {name: parameter.data for name, parameter in model.named_parameters()}
    places = {name: f"{name.removesuffix('.weight')}.{adapter}.weight" for name in names}
    if len(set(places.values())) < len(names) or not set(places.values()) <= state.keys():
        raise _UnlikeError
    return {name: state[place] for name, place in places.items()}


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where it cannot be read, which loading will report."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _has_code(folder: Path) -> bool:
    """Whether the model has code of its own (auto_map), which config.json and the weights do not identify."""
    return "auto_map" in _read_json(folder / "config.json")


def _dtype_is_certain(folder: Path, layout: Layout) -> bool:
    """Whether the configuration names a dtype, or all weights have the same: else transformers takes the first one in the files."""
    config = _read_json(folder / "config.json")
    parts = [config, config.get("text_config")]
    named = any(part.get(key) for part in parts if isinstance(part, dict) for key in ("dtype", "torch_dtype"))
    return named or len({dtype for _, dtype, _ in layout.tensors if dtype.startswith(FLOATING)}) <= 1


def _configuration(folder: Path) -> str | None:
    """config.json without irrelevant keys, as text; None for a model that is never kept (quantised, moving rotary frequencies)."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        text = json.dumps({key: value for key, value in config.items() if key not in VOLATILE}, sort_keys=True)
        moving = any(f'"{kind}"' in text for kind in MOVING_ROPE)
        return None if config.get("quantization_config") or moving else text
    except (OSError, ValueError, AttributeError):
        return None


def _adapter_configuration(adapter: Path) -> str | None:
    """adapter_config.json of a plain LoRA without keys that do not change its output, as text; None for any other."""
    try:
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        meaning = {key: value for key, value in config.items() if key not in VOLATILE_ADAPTER and value}
        for key, value in meaning.items():
            allowed = PLAIN_LORA.get(key, ())
            if allowed is not None and value not in allowed:
                return None
        if meaning.get("peft_type") != "LORA":
            return None
        meaning["init_lora_weights"] = None
        # Patterns in their own order: peft takes the first that matches.
        return json.dumps([[key, sorted(v) if isinstance(v, list) else v] for key, v in sorted(meaning.items())])
    except (OSError, ValueError, TypeError, AttributeError):
        return None
