"""Token ids of fields on disk, so that a field is encoded once per tokenizer and not once per process.

A file is named by a digest of what determines its content (tokenizer, field, VERSION), never by a name or a path.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from harness.core.cached_file import CachedFile, cache_folder
from harness.core.digest import digest_json
from harness.core.tokens import TokenPair, TokenSet

VERSION = 2
"""Raised when encode.py would give other ids, or conversation.py other pairs."""


def stored_tokens(tokenizer: str, field: str) -> StoredTokens:
    """Where the ids of a field (by digest) under a tokenizer (by digest) are kept."""
    name = digest_json([VERSION, tokenizer, field]).removeprefix("sha256:")
    return StoredTokens(cache_folder() / "tokens" / f"{name}.bin")


class StoredTokens:
    """One token set in one file, as NumPy arrays."""

    def __init__(self, path: Path) -> None:
        self._file = CachedFile(path)
        self.path = path

    def read(self) -> TokenSet | None:
        """The token set; None where the file is missing or damaged."""
        content = self._file.read()
        if content is None:
            return None
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                ids = np.split(arrays["ids"], arrays["stops"][:-1])
                columns = (arrays[name].tolist() for name in ("names", "n_context", "n_bytes", "clusters"))
                pairs = tuple(
                    TokenPair(id=name, ids=row, n_context=n_context, n_bytes=n_bytes, cluster=cluster)
                    for row, name, n_context, n_bytes, cluster in zip(ids, *columns, strict=True)
                )
                return TokenSet(pairs=pairs, n_boundary=int(arrays["n_boundary"]))
        except (OSError, ValueError, KeyError):
            return None

    def write(self, tokens: TokenSet) -> None:
        """Store a token set; does nothing where the disk cannot be written."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            ids=np.concatenate([pair.ids for pair in tokens.pairs]),
            stops=np.cumsum([len(pair.ids) for pair in tokens.pairs]),
            n_context=np.array([pair.n_context for pair in tokens.pairs]),
            n_bytes=np.array([pair.n_bytes for pair in tokens.pairs]),
            names=np.array([pair.id for pair in tokens.pairs]),
            clusters=np.array([pair.cluster for pair in tokens.pairs]),
            n_boundary=np.array(tokens.n_boundary),
        )
        self._file.write(buffer.getvalue())
