"""The base of an adapter: which folder a name stands for, and whose tokenizer an adapter is used with."""

from __future__ import annotations

from pathlib import Path

from harness.checkpoints.hub import fetch, looks_like_hub_id
from harness.core.checkpoint import Checkpoint
from harness.core.errors import CheckpointError
from harness.core.opening import OpenOptions


class Bases:
    """Bases of adapters by name; each is looked for once."""

    def __init__(self, options: OpenOptions) -> None:
        self._options = options
        self._found: dict[str, Path] = {}

    def folder(self, checkpoint: Checkpoint) -> Path:
        """The base's folder, fetched where it is a hub id. Raises CheckpointError."""
        name = checkpoint.base
        if name is None:
            raise CheckpointError(f"adapter {checkpoint.label} has no base model; pass --base FOLDER")
        if name not in self._found:
            if looks_like_hub_id(name):
                snapshot = fetch(
                    name, allow_pickle=self._options.allow_pickle, trust_remote_code=self._options.trust_remote_code
                )
                self._found[name] = snapshot.folder
            elif (Path(name) / "config.json").exists():
                self._found[name] = Path(name)
            else:
                raise CheckpointError(
                    f"base {name} of adapter {checkpoint.label} is not a model folder; pass --base FOLDER"
                )
        return self._found[name]

    def model_folder(self, checkpoint: Checkpoint) -> Path:
        """The folder of the whole model that is loaded or served: an adapter's base, else the checkpoint. Raises CheckpointError."""
        return self.folder(checkpoint) if checkpoint.kind == "lora" else checkpoint.folder

    def tokenizer_folder(self, checkpoint: Checkpoint) -> Path:
        """Where its tokenizer is: beside the weights; for an adapter that has none, its base's."""
        own = checkpoint.folder
        if checkpoint.kind == "lora" and not any(
            (own / name).exists() for name in ("tokenizer.json", "tokenizer_config.json")
        ):
            return self.folder(checkpoint)
        return own
