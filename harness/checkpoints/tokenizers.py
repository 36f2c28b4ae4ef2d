"""Loads tokenizers of checkpoints, with their identities."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from harness.checkpoints.bases import Bases
from harness.checkpoints.fingerprint import code_digest, code_files, read_json, tokenizer_files, tokenizer_files_digest
from harness.checkpoints.known_tokenizers import can_be_known, known_tokenizer
from harness.core.cached_file import CachedFile
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

        files = self._files(checkpoint)
        now = files.identities()
        if self._last is not None and self._last[0] == now:
            return self._last[1]
        contents = files.contents()
        found = self._alike.get(contents)
        if found is None:
            folder, config = files.folder, files.config
            tokenizer = load_tokenizer(folder, config=config, trust_remote_code=self._options.trust_remote_code)
            note = None
            if files.own and any((config / path.name).exists() for path in tokenizer_files(folder)):
                bases = load_tokenizer(config, trust_remote_code=self._options.trust_remote_code)
                if probe_ids(bases) != probe_ids(tokenizer):
                    note = "the adapter's tokenizer gives other ids than its base's"
            found = Tokenizer(tokenizer, tokenizer_digest(tokenizer), note)
            known = self._known(files, contents) if can_be_known(tokenizer) else None
            if known is not None and files.contents() == contents:
                known.write(found.identity.encode())
        self._alike = {contents: found}
        self._last = now, found
        return found

    def identity(self, checkpoint: Checkpoint) -> str:
        """Its identity alone: nothing is loaded where a tokenizer of the same content was before, by any process. Raises CheckpointError."""
        files = self._files(checkpoint)
        if self._last is None or self._last[0] != files.identities():
            contents = files.contents()
            if contents not in self._alike:
                known = self._known(files, contents)
                kept = None if known is None else known.read()
                if kept is not None:
                    return kept.decode()
        return self.load(checkpoint).identity

    def _files(self, checkpoint: Checkpoint) -> TokenizerFiles:
        folder = self._bases.tokenizer_folder(checkpoint)
        own = checkpoint.kind == "lora" and folder == checkpoint.folder
        # transformers lets the model's configuration decide what class, and with it what rules, a tokenizer gets.
        config = self._bases.folder(checkpoint) if own else folder
        code = code_files(folder) if self._options.trust_remote_code else []
        return TokenizerFiles(folder, config, own, code)

    def _known(self, files: TokenizerFiles, contents: str) -> CachedFile | None:
        """Where its identity is kept; nowhere, where code that came with it may do anything."""
        return None if self._options.trust_remote_code else known_tokenizer(contents, [files.folder, files.config])


class TokenizerFiles(NamedTuple):
    """What a tokenizer is loaded from. `own`: it is an adapter's, and `config` the folder of its base."""

    folder: Path
    config: Path
    own: bool
    code: list[Path]

    def identities(self) -> Identities:
        """The files, as they are now."""
        bases = tokenizer_files(self.config) if self.own else ()
        settings = [folder / "config.json" for folder in (self.folder, self.config)]
        return identities([*tokenizer_files(self.folder), *settings, *bases, *self.code])

    def contents(self) -> str:
        """Digest of what the files hold. Raises CheckpointError."""
        return digest_json(
            [
                tokenizer_files_digest(self.folder),
                _settings(self.folder),  # an adapter's folder may have one, which comes before the base's
                _settings(self.config),
                tokenizer_files_digest(self.config),
                code_digest(self.code),
            ]
        )


def _settings(folder: Path) -> dict[str, Any]:
    """A model's configuration without its path: class, type, version and other keys decide how a tokenizer is loaded."""
    try:
        config = read_json(folder / "config.json")
    except CheckpointError:
        return {}
    return {key: value for key, value in config.items() if key != "_name_or_path"}
