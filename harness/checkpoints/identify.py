"""The identity of a checkpoint, by weights and tokenizer, and whether its files are still those that were identified."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from harness.checkpoints.answering import template_files
from harness.checkpoints.bases import Bases
from harness.checkpoints.fingerprint import adapter_fingerprint, content_files, full_fingerprint
from harness.checkpoints.tokenizers import Tokenizers
from harness.core.checkpoint import Checkpoint
from harness.core.errors import CheckpointError
from harness.core.file_identity import Identities, first_changed, identities
from harness.core.opening import OpenOptions
from harness.core.vector import CheckpointRecord


class Identified(NamedTuple):
    """A checkpoint, its fingerprint, and the files that it was computed from, as they were then."""

    checkpoint: Checkpoint
    fingerprint: str
    files: Identities


class Identifier:
    """Identifies one checkpoint after the other; a base's fingerprint is computed once for as long as its files stay."""

    def __init__(self, options: OpenOptions, bases: Bases, tokenizers: Tokenizers) -> None:
        self._options = options
        self._bases = bases
        self._tokenizers = tokenizers
        self.n_identified = 0
        """How often a checkpoint was identified: what was derived at an earlier count is out of date."""
        self._identified: Identified | None = None
        self._base_fingerprint: tuple[Path, Identities, str] | None = None

    def identify(self, checkpoint: Checkpoint) -> CheckpointRecord:
        """The checkpoint's identity, by weights and tokenizer. Raises CheckpointError for one that cannot be scored."""
        if checkpoint.problem:
            raise CheckpointError(checkpoint.problem)
        files = self.files(checkpoint)
        if checkpoint.kind == "lora":
            fingerprint = adapter_fingerprint(
                checkpoint.folder, self.fingerprint_of_base(self._bases.folder(checkpoint))
            )
        else:
            fingerprint = self._full_fingerprint(checkpoint.folder)
        tokenizer = self._tokenizers.load(checkpoint).identity
        self._identified = Identified(checkpoint, fingerprint, files)
        self.n_identified += 1
        self.check_unchanged(checkpoint)
        return self.record(checkpoint, fingerprint=fingerprint, tokenizer=tokenizer)

    def _full_fingerprint(self, folder: Path) -> str:
        return full_fingerprint(folder, allow_pickle=self._options.allow_pickle, code=self._options.trust_remote_code)

    def fingerprint_of_base(self, base: Path) -> str:
        """The base's fingerprint, computed again only when its files changed. Raises CheckpointError."""
        known = self._base_fingerprint
        if known is None or known[0] != base or first_changed(known[1]):
            files = identities(content_files(base))
            self._base_fingerprint = known = base, files, self._full_fingerprint(base)
        return known[2]

    def _files(self, checkpoint: Checkpoint) -> list[Path]:
        """Every file that decides what is scored."""
        base = [*content_files(self._bases.folder(checkpoint))] if checkpoint.kind == "lora" else []
        return [*content_files(checkpoint.folder), *template_files(self._bases.tokenizer_folder(checkpoint)), *base]

    def check_unchanged(self, checkpoint: Checkpoint) -> None:
        """Raises CheckpointError if the files are no longer those that were identified."""
        known = self._identified
        if known is None or known.checkpoint != checkpoint or first_changed(known.files) is None:
            return
        changed = first_changed(known.files, but_for_links=True)
        if (
            changed is None
        ):  # perhaps only a hard link was made, as by a trainer that keeps the best step: compare the content
            self._identified, self._base_fingerprint = None, None
            same = self.identify(checkpoint).fingerprint == known.fingerprint
            changed = None if same else checkpoint.folder
        if changed is not None:
            raise CheckpointError(
                f"{changed} was written to or replaced while {checkpoint.label} was measured, so it is not known which "
                "weights a score would be of; wait until it is complete and run again with --retry-failed"
            )

    @staticmethod
    def record(
        checkpoint: Checkpoint, *, fingerprint: str | None = None, tokenizer: str | None = None
    ) -> CheckpointRecord:
        """The checkpoint as recorded in a vector."""
        return CheckpointRecord(
            path=checkpoint.label,
            kind=checkpoint.kind,
            base=checkpoint.base,
            revision=checkpoint.revision,
            fingerprint=fingerprint,
            tokenizer=tokenizer,
            tokens_seen=checkpoint.tokens_seen,
        )

    def files(self, checkpoint: Checkpoint) -> Identities:
        """The files that decide what is scored, as they are now. Raises CheckpointError."""
        return identities(self._files(checkpoint))

    def identified(self, checkpoint: Checkpoint) -> Identified:
        """Its last identification; identifies it where there is none. Raises CheckpointError."""
        if self._identified is None or self._identified.checkpoint != checkpoint:
            self.identify(checkpoint)
        assert self._identified is not None
        return self._identified

    def adopt(self, identified: Identified) -> None:
        """Use the identification that another process made, instead of hashing the files again."""
        if self._identified != identified:
            self._identified = identified
            self.n_identified += 1

    def fingerprint(self, checkpoint: Checkpoint) -> str:
        """The fingerprint of its last identification. Raises CheckpointError."""
        return self.identified(checkpoint).fingerprint
