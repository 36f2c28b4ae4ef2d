"""Checkpoints on the Hugging Face hub: `org/name` or `org/name@revision` to a local folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from harness.core.errors import CheckpointError

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?$")
PATTERNS = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "*.spm", "*.tiktoken", "*.codes", "*.tokenizer"]
PICKLE_PATTERNS = ["*.bin"]
CODE_PATTERNS = ["*.py"]
IGNORED = ["original/*", "consolidated*"]
"""The same weights a second time, in the authors' own format."""


class Snapshot(NamedTuple):
    """A downloaded repository and the commit it is at."""

    folder: Path
    commit: str


def looks_like_hub_id(text: str) -> bool:
    """Whether `text` has the form of a hub id. An existing path of the same form is a path."""
    return bool(HUB_ID.match(text)) and not Path(text).exists()


def fetch(hub_id: str, *, allow_pickle: bool = False, trust_remote_code: bool = False) -> Snapshot:
    """Download, or find in the hub's cache, the files a score needs. Raises CheckpointError."""
    from huggingface_hub import snapshot_download

    name, _, revision = hub_id.partition("@")
    patterns = PATTERNS + (PICKLE_PATTERNS if allow_pickle else []) + (CODE_PATTERNS if trust_remote_code else [])
    try:
        folder = Path(
            snapshot_download(name, revision=revision or None, allow_patterns=patterns, ignore_patterns=IGNORED)
        )
    except Exception as error:
        raise CheckpointError(
            f"no folder {hub_id} here, and the hub does not give it either ({_words(error)}); check the name, the revision and "
            "the connection"
        ) from error
    return Snapshot(folder, folder.name)


def _words(error: Exception) -> str:
    """The first sentence of what the hub's library says, whole: the rest is advice for its own callers."""
    from huggingface_hub.constants import is_offline_mode

    if is_offline_mode():
        return "HF_HUB_OFFLINE is set, and no copy is in its cache"
    first = " ".join(str(error).split()).partition(". ")[0]
    return f"{type(error).__name__}: {first if len(first) <= 300 else first[:299] + '…'}"
