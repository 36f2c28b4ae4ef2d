"""Identities of tokenizers on disk. To find one means to load the tokenizer, which imports torch: seconds, where a forecast
needs milliseconds. What is kept is the identity alone, for what asks nothing else of a tokenizer.
"""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.checkpoints.answering import files_digest
from harness.core.cached_file import CachedFile, cache_folder
from harness.core.digest import digest_bytes, digest_json

LIBRARIES = ("transformers", "tokenizers")
"""What loads a tokenizer."""
RULES = ("tokenizer_identity.py", "load.py")
"""The files of engines/models that say how a tokenizer is loaded and what its identity is over."""


def known_tokenizer(contents: str, folders: Sequence[Path]) -> CachedFile | None:
    """Where the identity is kept of the tokenizer in the first of `folders`, whose other one is the model's. `contents`: digest of
    what their files hold. Raises CheckpointError.

    Named for everything that decides an identity: those contents, chat templates beside them, every installed package with its
    version, Python, our own rules. None where that cannot be told: a library that is no installed release (a clone on the path)
    has no version of its own.
    """
    if not all(map(_is_installed, LIBRARIES)):
        return None
    engines = Path(__file__).parents[1] / "engines" / "models"
    name = digest_json(
        [
            contents,
            [[files_digest(folder), _hub_name(folder)] for folder in folders],
            _installed(),
            [platform.python_implementation(), platform.python_version()],
            [digest_bytes((engines / rule).read_bytes()) for rule in RULES],
        ]
    )
    return CachedFile(cache_folder() / "tokenizers" / name.removeprefix("sha256:"))


def can_be_known(tokenizer: Any) -> bool:
    """Whether all that decides a tokenizer is in its files: those of transformers with a fast backend, not those of other code."""
    return (
        type(tokenizer).__module__.startswith("transformers.")
        and getattr(tokenizer, "backend_tokenizer", None) is not None
    )


def _hub_name(folder: Path) -> str:
    """A path that reads like an id on the hub; transformers treats some ids in their own way."""
    return "" if folder.is_absolute() or len(folder.parts) > 2 else folder.as_posix()


def _installed() -> list[str]:
    """Every distribution on the path, by the name of its folder, which holds its version."""
    found: set[str] = set()
    for place in sys.path:
        try:
            found.update(
                path.name for path in Path(place or ".").iterdir() if path.suffix in (".dist-info", ".egg-info")
            )
        except OSError:  # an archive, or a folder that is not there
            continue
    return sorted(found)


def _is_installed(library: str) -> bool:
    """Whether it is imported from where a distribution of its name is."""
    found = importlib.util.find_spec(library)
    if found is None or found.origin is None:
        return False
    return any(Path(found.origin).parents[1].glob(f"{library}-*.dist-info"))
