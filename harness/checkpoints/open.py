"""Opening checkpoints: identify the weights first, load model and tokenizer only when something asks for them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from harness.checkpoints.bases import Bases
from harness.checkpoints.identify import Identifier
from harness.checkpoints.models import Models
from harness.checkpoints.open_checkpoint import OpenCheckpoint
from harness.checkpoints.serving import Serving
from harness.checkpoints.tokenizers import Tokenizers
from harness.core.checkpoint import Checkpoint
from harness.core.opening import OpenOptions


class Opener:
    """Opens checkpoints with one set of options; its parts keep what the next one can use: model, tokenizers, bases, the server.

    `log_folder`: where a server's logs go (a temporary folder by default).
    """

    def __init__(self, options: OpenOptions | None = None, *, log_folder: Path | None = None) -> None:
        self.options = options or OpenOptions()
        bases = self._bases = Bases(self.options)
        self.tokenizers = Tokenizers(self.options, bases)
        self.identifier = Identifier(self.options, bases, self.tokenizers)
        self.models = Models(self.options, bases, self.identifier)
        self.serving = Serving(
            self.options,
            bases=bases,
            tokenizers=self.tokenizers,
            identifier=self.identifier,
            models=self.models,
            log_folder=log_folder,
        )

    def check(self, *, served: bool = False) -> None:
        """Refuse a device that is not there, and where checkpoints are to be served what of `serve` cannot do. Raises SpecError."""
        if self.options.device not in ("auto", "cpu"):  # those are there without a look
            from harness.engines.models.load import choose_device

            choose_device(self.options.device)
        if served:
            from harness.engines.vllm.settings import check_settings

            check_settings(self.options.serve)

    @staticmethod
    def fix_products(stored: str | None) -> str:
        """Which library multiplies on a CPU from here on: as the run folder stored it, or as is found now. Raises StateError."""
        from harness.engines.scoring.products import fix_products

        return fix_products(stored)

    @contextlib.contextmanager
    def open(self, checkpoint: Checkpoint) -> Iterator[OpenCheckpoint]:
        """The checkpoint as a Subject, until the next one is opened."""
        opened = OpenCheckpoint(self._bases, self.tokenizers, self.identifier, self.models, self.serving, checkpoint)
        try:
            yield opened
        finally:
            opened.close()

    def close(self) -> None:
        """End the server, if there is one, and give the memory of the kept model back."""
        self.serving.close()
        self.models.close()
