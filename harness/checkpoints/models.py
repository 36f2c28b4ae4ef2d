"""Models of checkpoints in this process, one at a time; the next checkpoint's weights are loaded into the same model where they fit."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.checkpoints.bases import Bases
from harness.checkpoints.fingerprint import ADAPTER, weight_files
from harness.checkpoints.identify import Identifier
from harness.checkpoints.read_ahead import read_ahead
from harness.core.checkpoint import Checkpoint
from harness.core.errors import CheckpointError
from harness.core.opening import OpenOptions

if TYPE_CHECKING:
    from harness.engines.models.shelf import Shelf


class Models:
    """Loads models by one set of options."""

    def __init__(self, options: OpenOptions, bases: Bases, identifier: Identifier) -> None:
        self._options = options
        self._bases = bases
        self._identifier = identifier
        self.shelf: Shelf | None = None
        self._following: list[Path] = []

    def load(self, checkpoint: Checkpoint) -> Any:
        """The model with its adapter, if it has one; good until the next call. Raises CheckpointError or EngineError."""
        from harness.engines.models.load import choose_device
        from harness.engines.models.shelf import Shelf

        if self.shelf is None:
            self.shelf = Shelf(self._options, device=choose_device(self._options.device))
        self._identifier.check_unchanged(checkpoint)
        if checkpoint.kind == "lora":
            base = self._bases.folder(checkpoint)
            model = self.shelf.adapted(base, weight_files(base), checkpoint.folder)
            self._identifier.check_unchanged(checkpoint)
            return model
        following, self._following = self._following, []
        files = weight_files(checkpoint.folder)
        model = self.shelf.full(checkpoint.folder, files)
        self._identifier.check_unchanged(checkpoint)
        if following != files:
            self.shelf.expect(following)
        return model

    def dry_load(self, checkpoint: Checkpoint) -> None:
        """Check the names and shapes of the model's tensors (of an adapter: its base's) without loading them.

        Raises CheckpointError.
        """
        from harness.engines.models.dry_load import dry_load

        folder = self._bases.model_folder(checkpoint)
        dry_load(folder, weight_files(folder), trust_remote_code=self._options.trust_remote_code)

    def files(self, checkpoint: Checkpoint) -> list[Path]:
        """Its safetensors files; of an adapter, its base's and its own. Raises CheckpointError."""
        if checkpoint.kind == "lora":
            return [*weight_files(self._bases.folder(checkpoint)), checkpoint.folder / ADAPTER]
        return weight_files(checkpoint.folder)

    def expect(self, checkpoint: Checkpoint) -> None:
        """Hint that `checkpoint` is opened next: starts the system's read-ahead now and, once the current model is loaded, staging
        into pinned memory (GPU only).
        """
        self._following = []
        with contextlib.suppress(CheckpointError):
            files = weight_files(checkpoint.folder)
            read_ahead(files)
            self._following = files

    def close(self) -> None:
        """Free the memory of the kept model."""
        if self.shelf is not None:
            self.shelf.clear()
