"""Models kept between the checkpoints of a sweep: the cost of one more is reading its weights, not building a model.

A full model of the same configuration and layout is copied into the one that is there; an adapter over the same base
takes the place of the one before. Whatever does not fit exactly is loaded afresh, so the numbers never depend on what
was loaded before.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from harness.core.errors import CheckpointError
from harness.engines.torch_model import check_adapter, explain, load_adapter, load_model, release

VOLATILE = {"_name_or_path", "transformers_version"}


class Shelf:
    """At most one model, on one device, loaded with one set of options."""

    def __init__(self, *, dtype: str, device: torch.device, trust_remote_code: bool, allow_pickle: bool) -> None:
        self._options: dict[str, Any] = {
            "dtype": dtype,
            "device": device,
            "trust_remote_code": trust_remote_code,
            "allow_pickle": allow_pickle,
        }
        self._model: Any = None
        self._kept: tuple[str, str] | None = None
        """("full", configuration) or ("adapter", base) of the model that is there."""
        self._n_adapters = 0

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
        kind = "adapter", str(base.resolve())
        if self._kept == kind and self._swap_in(adapter):
            return self._model
        self.clear()
        self._model = load_adapter(load_model(base, **self._options), adapter)
        self._kept = kind
        return self._model

    def clear(self) -> None:
        """Give the model's memory back."""
        if self._model is not None:
            self._model, self._kept = None, None
            release()

    def _copy_in(self, folder: Path, files: Sequence[Path]) -> bool:
        """Copy a folder's weights into the model, if every weight has exactly one place there."""
        from safetensors import safe_open

        state = self._model.state_dict()
        try:
            opened: list[Any] = [safe_open(path, framework="pt") for path in files]
            places = [(name, file) for file in opened for name in file.keys()]  # noqa: SIM118 - not a dictionary
            names = {name for name, _ in places}
            saved = {state[name].data_ptr() for name in names if name in state}
            fits = (
                len(names) == len(places)
                and names <= state.keys()
                and all(name in names or tensor.data_ptr() in saved for name, tensor in state.items())
                and all(list(state[name].shape) == file.get_slice(name).get_shape() for name, file in places)
            )
            if not fits:
                return False
            with torch.no_grad():
                for name, file in places:
                    state[name].copy_(file.get_tensor(name))
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


def _configuration(folder: Path) -> str:
    """config.json without what says nothing about the model; unreadable is unlike any other."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if config.get("quantization_config"):
            return f"quantized {folder}"
        return json.dumps({key: value for key, value in config.items() if key not in VOLATILE}, sort_keys=True)
    except (OSError, ValueError, AttributeError):
        return f"unreadable {folder}"
