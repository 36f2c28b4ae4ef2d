"""Loads tokenizers of checkpoints, with their identities."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from harness.checkpoints.bases import Bases
from harness.checkpoints.fingerprint import code_digest, code_files, read_json, tokenizer_files, tokenizer_files_digest
from harness.core.checkpoint import Checkpoint
from harness.core.digest import digest_json
from harness.core.errors import CheckpointError
from harness.core.file_identity import Identities, identities
from harness.core.opening import OpenOptions


class Tokenizer(NamedTuple):
    """A loaded tokenizer and its identity. `note`: what a reader of numbers under it should know."""

    tokenizer: Any
    identity: str
    note: str | None = None


class Tokenizers:
    """Loads the tokenizers in checkpoint folders. The last one is kept, since the checkpoints of a training share it."""

    def __init__(self, options: OpenOptions, bases: Bases) -> None:
        self._options = options
        self._bases = bases
        self._last: tuple[Identities, Tokenizer] | None = None
        self._alike: dict[str, Tokenizer] = {}
        """The tokenizer loaded last, by digest of its files' content."""

    def load(self, checkpoint: Checkpoint) -> Tokenizer:
        """The checkpoint's tokenizer; not loaded again while files of the same content follow each other.

        Raises CheckpointError.
        """
        from harness.engines.models.load import load_tokenizer
        from harness.engines.models.tokenizer_identity import probe_ids, tokenizer_digest

        folder = self._bases.tokenizer_folder(checkpoint)
        own = checkpoint.kind == "lora" and folder == checkpoint.folder
        # transformers lets the model's configuration decide what class, and with it what rules, a tokenizer gets.
        config = self._bases.folder(checkpoint) if own else folder
        code = code_files(folder) if self._options.trust_remote_code else []
        paths = [*tokenizer_files(folder), config / "config.json", *(tokenizer_files(config) if own else ()), *code]
        files = identities(paths)
        if self._last is not None and self._last[0] == files:
            return self._last[1]
        contents = digest_json(
            [tokenizer_files_digest(folder), _settings(config), tokenizer_files_digest(config), code_digest(code)]
        )
        found = self._alike.get(contents)
        if found is None:
            tokenizer = load_tokenizer(folder, config=config, trust_remote_code=self._options.trust_remote_code)
            note = None
            if own and any((config / path.name).exists() for path in tokenizer_files(folder)):
                bases = load_tokenizer(config, trust_remote_code=self._options.trust_remote_code)
                if probe_ids(bases) != probe_ids(tokenizer):
                    note = "the adapter's tokenizer gives other ids than its base's"
            found = Tokenizer(tokenizer, tokenizer_digest(tokenizer), note)
        self._alike = {contents: found}
        self._last = files, found
        return found


def _settings(folder: Path) -> dict[str, Any]:
    """A model's configuration without its path: class, type, version and other keys decide how a tokenizer is loaded."""
    try:
        config = read_json(folder / "config.json")
    except CheckpointError:
        return {}
    return {key: value for key, value in config.items() if key != "_name_or_path"}
