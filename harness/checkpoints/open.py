"""Opening a checkpoint: identify its weights first, load model and tokenizer only when something asks for them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.checkpoints.fingerprint import adapter_fingerprint, full_fingerprint, tokenizer_files_digest
from harness.checkpoints.hub import fetch, looks_like_hub_id
from harness.core.checkpoint import Checkpoint
from harness.core.errors import CheckpointError, HarnessError
from harness.core.vector import CheckpointRecord


class OpenCheckpoint:
    """A Subject backed by a folder."""

    def __init__(self, opener: Opener, checkpoint: Checkpoint) -> None:
        self._opener = opener
        self._checkpoint = checkpoint
        self._model: Any = None
        self._tokenizer: Any = None
        self._failure: HarnessError | None = None

    def model(self) -> Any:
        """Load on first use; a failure is remembered, not repeated for every component. Raises HarnessError."""
        if self._failure is not None:
            raise self._failure
        if self._model is None:
            try:
                self._model = self._opener.load_model(self._checkpoint)
            except HarnessError as error:
                self._failure = error
                raise
        return self._model

    def close(self) -> None:
        """Give the model's memory back."""
        if self._model is not None:
            from harness.engines.torch_model import release

            self._model = None
            release()

    def tokenizer(self) -> Any:
        """Load on first use: the checkpoint's own, for an adapter without one its base's. Raises CheckpointError."""
        if self._tokenizer is None:
            self._tokenizer = self._opener.load_tokenizer(self._checkpoint)
        return self._tokenizer


class Opener:
    """Opens checkpoints with one set of options; remembers what it has learnt about bases."""

    def __init__(self, *, dtype: str, device: str, trust_remote_code: bool = False, allow_pickle: bool = False) -> None:
        self.dtype = dtype
        self.device = device
        self.trust_remote_code = trust_remote_code
        self.allow_pickle = allow_pickle
        self._bases: dict[str, Path] = {}
        self._fingerprints: dict[Path, str] = {}

    def identify(self, checkpoint: Checkpoint) -> CheckpointRecord:
        """Who this is, by weights. Raises CheckpointError for what cannot be scored."""
        if checkpoint.problem:
            raise CheckpointError(checkpoint.problem)
        if checkpoint.kind == "lora":
            base = self._base(checkpoint)
            if base not in self._fingerprints:
                self._fingerprints[base] = full_fingerprint(base, allow_pickle=self.allow_pickle)
            fingerprint = adapter_fingerprint(checkpoint.folder, self._fingerprints[base])
        else:
            fingerprint = full_fingerprint(checkpoint.folder, allow_pickle=self.allow_pickle)
        return self.record(checkpoint, fingerprint=fingerprint, tokenizer=self._tokenizer_files(checkpoint))

    @staticmethod
    def record(
        checkpoint: Checkpoint, *, fingerprint: str | None = None, tokenizer: str | None = None
    ) -> CheckpointRecord:
        """The checkpoint as a vector names it."""
        return CheckpointRecord(
            path=checkpoint.label,
            kind=checkpoint.kind,
            base=checkpoint.base,
            revision=checkpoint.revision,
            fingerprint=fingerprint,
            tokenizer=tokenizer,
            tokens_seen=checkpoint.tokens_seen,
        )

    @contextlib.contextmanager
    def open(self, checkpoint: Checkpoint) -> Iterator[OpenCheckpoint]:
        """The checkpoint as a Subject; its memory is given back at the end."""
        opened = OpenCheckpoint(self, checkpoint)
        try:
            yield opened
        finally:
            opened.close()

    def load_model(self, checkpoint: Checkpoint) -> Any:
        """The model with its adapter, if it has one. Raises CheckpointError."""
        from harness.engines.torch_model import choose_device, load_adapter, load_model

        model = load_model(
            self._base(checkpoint) if checkpoint.kind == "lora" else checkpoint.folder,
            dtype=self.dtype,
            device=choose_device(self.device),
            trust_remote_code=self.trust_remote_code,
            allow_pickle=self.allow_pickle,
        )
        return load_adapter(model, checkpoint.folder) if checkpoint.kind == "lora" else model

    def load_tokenizer(self, checkpoint: Checkpoint) -> Any:
        """The tokenizer beside the weights. Raises CheckpointError."""
        from harness.engines.torch_model import load_tokenizer

        return load_tokenizer(self._tokenizer_folder(checkpoint), trust_remote_code=self.trust_remote_code)

    def _tokenizer_files(self, checkpoint: Checkpoint) -> str:
        return tokenizer_files_digest(self._tokenizer_folder(checkpoint))

    def _tokenizer_folder(self, checkpoint: Checkpoint) -> Path:
        own = checkpoint.folder
        if checkpoint.kind == "lora" and not any(
            (own / name).exists() for name in ("tokenizer.json", "tokenizer_config.json")
        ):
            return self._base(checkpoint)
        return own

    def _base(self, checkpoint: Checkpoint) -> Path:
        name = checkpoint.base
        if name is None:
            raise CheckpointError(f"adapter {checkpoint.label} has no base model; pass --base FOLDER")
        if name not in self._bases:
            if looks_like_hub_id(name):
                snapshot = fetch(name, allow_pickle=self.allow_pickle, trust_remote_code=self.trust_remote_code)
                self._bases[name] = snapshot.folder
            elif (Path(name) / "config.json").exists():
                self._bases[name] = Path(name)
            else:
                raise CheckpointError(
                    f"base {name} of adapter {checkpoint.label} is not a model folder; pass --base FOLDER"
                )
        return self._bases[name]
