"""Models kept between the checkpoints of a sweep: the cost of one more is reading its weights, not building a model.

A full model of the same configuration and layout is copied into the one that is there; an adapter over the same base
takes the place of the one before. Whatever does not fit exactly is loaded afresh, so the numbers never depend on what
was loaded before.
"""

from __future__ import annotations

import contextlib
import functools
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from harness.core.errors import CheckpointError
from harness.engines.models.load import check_adapter, explain, load_adapter, load_model, release
from harness.engines.models.staging import Staging, Weights

PLACES = (
    "target_modules",
    "modules_to_save",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "target_parameters",
)
"""What adapter_config.json says of the modules that are changed."""
VOLATILE = {"_name_or_path", "transformers_version"}


class Shelf:
    """At most one model, on one device, loaded with one set of options.

    `staging` holds the next one's weights; a GPU has one anyway.
    """

    def __init__(
        self,
        *,
        dtype: str,
        device: torch.device,
        trust_remote_code: bool,
        allow_pickle: bool,
        staging: Staging | None = None,
    ) -> None:
        self._options: dict[str, Any] = {
            "dtype": dtype,
            "device": device,
            "trust_remote_code": trust_remote_code,
            "allow_pickle": allow_pickle,
        }
        self._model: Any = None
        self._kept: tuple[str, str] | None = None
        """("full", configuration) or ("adapter", base and places) of the model that is there."""
        self._n_adapters = 0
        self.staging = staging or (Staging(device) if device.type == "cuda" else None)

    def full(self, folder: Path, files: Sequence[Path]) -> Any:
        """The model of a folder whose safetensors files are `files`. Raises CheckpointError or EngineError."""
        kind = "full", _configuration(folder)
        if self._kept == kind and files and self._copy_in(folder, files):
            return self._model
        self.clear()
        self._model = load_model(folder, **self._options)
        self._kept = kind
        return self._model

    def adapted(self, base: Path, adapter: Path) -> Any:
        """The model of a base folder under an adapter. Raises CheckpointError or EngineError."""
        kind = "adapter", f"{base.resolve()} {_places(adapter)}"
        if self._kept == kind and self._swap_in(adapter):
            return self._model
        self.clear()
        self._model = load_adapter(load_model(base, **self._options), adapter)
        self._kept = kind
        return self._model

    def expect(self, files: Sequence[Path]) -> None:
        """A full model of these safetensors files comes next."""
        if self.staging is not None and files:
            self.staging.expect(files)

    def clear(self) -> None:
        """Give the model's memory back, and that of staged weights."""
        if self.staging is not None:
            self.staging.clear()
        if self._model is not None:
            self._model, self._kept = None, None
            release()

    def _copy_in(self, folder: Path, files: Sequence[Path]) -> bool:
        """Copy a folder's weights into the model, if every weight has exactly one place there."""
        state = self._model.state_dict()
        nothing = contextlib.nullcontext(None)
        try:
            with self.staging.taken(files) if self.staging is not None else nothing as staged:
                held = staged is not None
                weights = _mapped(files) if staged is None else _held(staged)
                names = {weight.name for weight in weights}
                saved = {state[name].data_ptr() for name in names if name in state}
                fits = (
                    len(names) == len(weights)
                    and names <= state.keys()
                    and all(name in names or tensor.data_ptr() in saved for name, tensor in state.items())
                    and all(list(state[weight.name].shape) == weight.shape for weight in weights)
                )
                if not fits:
                    return False
                with torch.no_grad():
                    for weight in weights:
                        target, source = state[weight.name], weight.tensor()
                        if source.dtype != target.dtype:  # a GPU changes it by itself, once it has it
                            source = source.to(target.device, non_blocking=held)
                        target.copy_(source, non_blocking=held)
        except Exception as error:
            self.clear()
            raise CheckpointError(f"cannot load the model in {folder}: {explain(error)}") from error
        return True

    def _swap_in(self, adapter: Path) -> bool:
        """Put another adapter in the place of the one before; whatever peft refuses is loaded afresh."""
        before = self._model.active_adapter
        self._n_adapters += 1
        name = f"adapter-{self._n_adapters}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                check_adapter(self._model.load_adapter(str(adapter), name), adapter)
                self._model.set_adapter(name)
                self._model.delete_adapter(before)
        except Exception:  # noqa: BLE001 - a fresh load says what is wrong
            return False
        self._model.eval()
        return True


class Weight(NamedTuple):
    """One tensor of a file; `tensor` brings it, and may read the file."""

    name: str
    shape: list[int]
    tensor: Callable[[], torch.Tensor]


def _held(staged: Weights) -> list[Weight]:
    """Tensors that are in memory."""
    return [Weight(name, list(tensor.shape), tensor.detach) for name, tensor in staged]


def _mapped(files: Sequence[Path]) -> list[Weight]:
    """The tensors of safetensors files, mapped into memory."""
    from safetensors import safe_open

    opened: list[Any] = [safe_open(path, framework="pt") for path in files]
    return [
        Weight(name, file.get_slice(name).get_shape(), functools.partial(file.get_tensor, name))
        for file in opened
        for name in file.keys()  # noqa: SIM118 - not a dictionary
    ]


def _places(adapter: Path) -> str:
    """Which modules of its base an adapter changes: what another one left wrapped there would be computed in another order."""
    try:
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        found = {key: config.get(key) for key in PLACES}
        return json.dumps({key: sorted(v) if isinstance(v, list) else v for key, v in found.items()})
    except (OSError, ValueError, TypeError, AttributeError):
        return f"unreadable {adapter}"


def _configuration(folder: Path) -> str:
    """config.json without what says nothing about the model; unreadable is unlike any other."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if config.get("quantization_config"):
            return f"quantized {folder}"
        return json.dumps({key: value for key, value in config.items() if key not in VOLATILE}, sort_keys=True)
    except (OSError, ValueError, AttributeError):
        return f"unreadable {folder}"
