"""The Subject that components measure: a checkpoint whose model, tokenizer and endpoint its opener provides on demand."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.core.checkpoint import Checkpoint
from harness.core.endpoint import Endpoint
from harness.core.errors import HarnessError

if TYPE_CHECKING:
    from harness.checkpoints.bases import Bases
    from harness.checkpoints.identify import Identifier
    from harness.checkpoints.models import Models
    from harness.checkpoints.serving import Serving
    from harness.checkpoints.tokenizers import Tokenizers


class OpenCheckpoint:
    """A Subject backed by a folder."""

    def __init__(
        self,
        bases: Bases,
        tokenizers: Tokenizers,
        identifier: Identifier,
        models: Models,
        serving: Serving,
        checkpoint: Checkpoint,
    ) -> None:
        self._bases = bases
        self._tokenizers = tokenizers
        self._identifier = identifier
        self._models = models
        self._serving = serving
        self._checkpoint = checkpoint
        self._model: Any = None
        self._failure: HarnessError | None = None
        self._lock = threading.Lock()

    def model(self) -> Any:
        """Load on first use; after a failure the same error is raised again for every component. Raises HarnessError."""
        if self._failure is not None:
            raise self._failure
        if self._model is None:
            try:
                self._model = self._models.load(self._checkpoint)
            except HarnessError as error:
                self._failure = error
                raise
        return self._model

    def close(self) -> None:
        """Drop the reference to the model, which the opener keeps for the next checkpoint."""
        self._model = None

    def tokenizer(self) -> Any:
        """Load on first use: the checkpoint's own, for an adapter without one its base's. Raises CheckpointError."""
        found = self._tokenizers.load(self._checkpoint)
        self._identifier.check_unchanged(self._checkpoint)  # its files are looked at whenever it is asked for
        return found.tokenizer

    def tokenizer_id(self) -> str:
        """Identity of the tokenizer by what it does. Raises CheckpointError."""
        found = self._tokenizers.identity(self._checkpoint)
        self._identifier.check_unchanged(self._checkpoint)
        return found

    def notes(self) -> list[str]:
        """What is unusual about its tokenizer, or about the base of an adapter."""
        found = (self._tokenizers.load(self._checkpoint).note, self._bases.note(self._checkpoint))
        return [note for note in found if note]

    def endpoint(self) -> Endpoint:
        """Where it is served. Raises SpecError, CheckpointError or EngineError."""
        return self._serving.put(self._checkpoint, self._own_logprobs)

    def _own_logprobs(self, ids: Sequence[int]) -> list[float]:
        """log P(ids[i] | ids[:i]) for i >= 1, by our own engine."""
        from harness.engines.scoring.score import token_logprobs

        with self._lock:
            return token_logprobs(self.model(), ids)
