"""JSON that a person wrote. A repeated key is an error: Python's parser silently keeps the last, which may not be the one meant."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any


def read_json(path: Path) -> Any:
    """The value in a file. Raises OSError, or ValueError for what is no JSON (too deep, or with a key that stands twice)."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_table)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        (key, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"key {key!r} stands twice")
    return made
