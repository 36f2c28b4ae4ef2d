"""The base of an adapter: which folder a name stands for, and whose tokenizer an adapter is used with."""

from __future__ import annotations

from pathlib import Path

from harness.checkpoints.fingerprint import read_json
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

    def note(self, checkpoint: Checkpoint) -> str | None:
        """A note if, by its files, an adapter was trained on another architecture than its base here; else None.

        Raises CheckpointError.
        """
        if checkpoint.kind != "lora":
            return None
        adapter = read_json(checkpoint.folder / "adapter_config.json")
        base = read_json(self.folder(checkpoint) / "config.json")
        mapping = adapter.get("auto_mapping")
        trained = mapping.get("base_model_class") if isinstance(mapping, dict) else None
        classes = base.get("architectures") or []
        if trained and classes and trained not in classes:
            return f"the adapter was trained on a {trained}, and its base here is a {classes[0]}"
        named = str(adapter.get("base_model_name_or_path") or "")
        for folder in (Path(named), checkpoint.folder / named) if named else ():
            if (folder / "config.json").exists():
                theirs, ours = read_json(folder / "config.json").get("model_type"), base.get("model_type")
                return (
                    None if theirs == ours else f"the adapter names {named}, a {theirs}, and its base here is a {ours}"
                )
        return None

    def tokenizer_folder(self, checkpoint: Checkpoint) -> Path:
        """The folder of its tokenizer: the checkpoint's; for an adapter without one, its base's. Raises CheckpointError."""
        own = checkpoint.folder
        if checkpoint.kind == "lora" and not any(
            (own / name).exists() for name in ("tokenizer.json", "tokenizer_config.json")
        ):
            return self.folder(checkpoint)
        return own
