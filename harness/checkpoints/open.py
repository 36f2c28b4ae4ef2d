"""Opening a checkpoint: identify its weights first, load model and tokenizer only when something asks for them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.checkpoints.fingerprint import (
    adapter_fingerprint,
    full_fingerprint,
    model_type,
    tokenizer_files_digest,
    weight_files,
)
from harness.checkpoints.hub import fetch, looks_like_hub_id
from harness.checkpoints.read_ahead import read_ahead
from harness.core.checkpoint import Checkpoint
from harness.core.digest import digest_json
from harness.core.endpoint import Endpoint
from harness.core.errors import CheckpointError, EngineError, HarnessError
from harness.core.vector import CheckpointRecord

if TYPE_CHECKING:
    from harness.engines.shelf import Shelf


class OpenCheckpoint:
    """A Subject backed by a folder."""

    def __init__(self, opener: Opener, checkpoint: Checkpoint) -> None:
        self._opener = opener
        self._checkpoint = checkpoint
        self._model: Any = None
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
        """Let go of the model; the opener keeps it for the next checkpoint."""
        self._model = None

    def tokenizer(self) -> Any:
        """Load on first use: the checkpoint's own, for an adapter without one its base's. Raises CheckpointError."""
        return self._opener.load_tokenizer(self._checkpoint).tokenizer

    def tokenizer_id(self) -> str:
        """Identity of the tokenizer by what it does. Raises CheckpointError."""
        return self._opener.load_tokenizer(self._checkpoint).identity

    def endpoint(self) -> Endpoint:
        """Where it is served. Raises SpecError, CheckpointError or EngineError."""
        return self._opener.serve(self._checkpoint)


class Tokenizer(NamedTuple):
    """A loaded tokenizer and its identity."""

    tokenizer: Any
    identity: str


class Opener:
    """Opens checkpoints with one set of options; keeps what the next one can use: the model, tokenizers, bases."""

    def __init__(self, *, dtype: str, device: str, trust_remote_code: bool = False, allow_pickle: bool = False) -> None:
        self.dtype = dtype
        self.device = device
        self.trust_remote_code = trust_remote_code
        self.allow_pickle = allow_pickle
        self._shelf: Shelf | None = None
        self._tokenizers: dict[str, Tokenizer] = {}
        self._bases: dict[str, Path] = {}
        self._fingerprints: dict[Path, str] = {}

    def check(self) -> None:
        """Refuse a device that is not there, before anything is written. Raises SpecError."""
        from harness.engines.torch_model import choose_device

        choose_device(self.device)

    def identify(self, checkpoint: Checkpoint) -> CheckpointRecord:
        """Who this is, by weights and tokenizer. Raises CheckpointError for what cannot be scored."""
        if checkpoint.problem:
            raise CheckpointError(checkpoint.problem)
        if checkpoint.kind == "lora":
            base = self._base(checkpoint)
            if base not in self._fingerprints:
                self._fingerprints[base] = full_fingerprint(base, allow_pickle=self.allow_pickle)
            fingerprint = adapter_fingerprint(checkpoint.folder, self._fingerprints[base])
        else:
            fingerprint = full_fingerprint(checkpoint.folder, allow_pickle=self.allow_pickle)
        return self.record(checkpoint, fingerprint=fingerprint, tokenizer=self.load_tokenizer(checkpoint).identity)

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
        """The checkpoint as a Subject, until the next one is opened."""
        opened = OpenCheckpoint(self, checkpoint)
        try:
            yield opened
        finally:
            opened.close()

    def load_model(self, checkpoint: Checkpoint) -> Any:
        """The model with its adapter, if it has one; good until the next call. Raises CheckpointError or EngineError."""
        from harness.engines.shelf import Shelf
        from harness.engines.torch_model import choose_device

        if self._shelf is None:
            self._shelf = Shelf(
                dtype=self.dtype,
                device=choose_device(self.device),
                trust_remote_code=self.trust_remote_code,
                allow_pickle=self.allow_pickle,
            )
        if checkpoint.kind == "lora":
            return self._shelf.adapted(self._base(checkpoint), checkpoint.folder)
        return self._shelf.full(checkpoint.folder, weight_files(checkpoint.folder))

    def expect(self, checkpoint: Checkpoint) -> None:
        """This one comes next: the system may read its weights from disk meanwhile."""
        with contextlib.suppress(CheckpointError):
            read_ahead(weight_files(checkpoint.folder))

    def serve(self, checkpoint: Checkpoint) -> Endpoint:
        """Put the checkpoint on the server. Raises SpecError, CheckpointError or EngineError."""
        raise EngineError(f"{checkpoint.label} cannot be served: this version starts no server")

    def close(self) -> None:
        """Give the memory of the kept model back."""
        if self._shelf is not None:
            self._shelf.clear()

    def load_tokenizer(self, checkpoint: Checkpoint) -> Tokenizer:
        """The tokenizer beside the weights; the same files are loaded once. Raises CheckpointError."""
        from harness.engines.torch_model import load_tokenizer, tokenizer_digest

        folder = self._tokenizer_folder(checkpoint)
        # transformers lets the model type decide what class, and with it what rules, a tokenizer gets.
        key = digest_json([tokenizer_files_digest(folder), model_type(folder)])
        if key not in self._tokenizers:
            tokenizer = load_tokenizer(folder, trust_remote_code=self.trust_remote_code)
            self._tokenizers = {key: Tokenizer(tokenizer, tokenizer_digest(tokenizer))}
        return self._tokenizers[key]

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
