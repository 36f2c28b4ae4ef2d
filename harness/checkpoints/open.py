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
    """Opens checkpoints with one set of options. What the next one can reuse is kept: model, tokenizer, bases, server.

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
        """Raises SpecError for a device that is not there, and if checkpoints are to be `served` for settings of `serve` that cannot work."""
        if self.options.device not in ("auto", "cpu"):  # those are always there
            from harness.engines.models.load import choose_device

            choose_device(self.options.device)
        if served:
            from harness.engines.vllm.settings import check_settings

            check_settings(self.options.serve)

    @staticmethod
    def fix_products(stored: str | None) -> str:
        """Fix the library of float32 products on a CPU: the one stored in the run folder, else the one found now.

        Raises StateError.
        """
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
        """End the server, if there is one, and free the memory of the kept model."""
        self.serving.close()
        self.models.close()
