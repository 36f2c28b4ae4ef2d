"""Merges initialisation data into a record: dictionaries key by key, anything else is replaced. Changes neither argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def deep_merge(base: Any, update: Any) -> Any:
    """`update` over `base`."""
    if not isinstance(base, Mapping) or not isinstance(update, Mapping):
        return update
    merged = dict(base)
    for key, value in update.items():
        merged[key] = deep_merge(merged[key], value) if key in merged else value
    return merged
