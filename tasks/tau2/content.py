"""What a tool returned, as the text that its caller sees. Upstream's rules; knows no tools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Any

from pydantic import BaseModel


def as_text(value: Any) -> str:
    """Text stays, records become JSON, and scalars inside plain dictionaries and lists become strings first.

    JSON that a tool already made is spaced as upstream spaces it. Raises ValueError for what has no text.
    """
    if not isinstance(value, str):
        return json.dumps(_plain(value), default=str)
    if value[:1] in ("{", "["):
        try:
            return json.dumps(json.loads(value))
        except ValueError:
            return value
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(warnings=False)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, date):
        return value.isoformat()
    raise ValueError(f"a tool returned {type(value).__name__}, which has no text")
