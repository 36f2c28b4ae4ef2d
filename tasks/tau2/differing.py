"""Where two records differ, field by field. Pure; knows nothing of what a record means."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

SHOWN = 120
"""Characters of a value in a sentence."""
ABSENT = "nothing"
"""What stands for a field or record that is not there."""


class Differing(NamedTuple):
    """A field of a record (`users.sara_1.orders[2]`): what it should be, and what it is; None where there is none."""

    path: str
    expected: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.path}: {_said(self.found)}, expected {_said(self.expected)}"


def _said(value: Any) -> str:
    text = ABSENT if value is None else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def differing(expected: Any, found: Any, path: str) -> Iterator[Differing]:
    """The smallest parts that are not equal; in lists of unequal lengths the rest of the longer one counts as absent."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for key in [*expected, *(key for key in found if key not in expected)]:
            yield from differing(expected.get(key), found.get(key), f"{path}.{key}")
    elif isinstance(expected, list) and isinstance(found, list):
        for at in range(max(len(expected), len(found))):
            should, there = (one[at] if at < len(one) else None for one in (expected, found))
            yield from differing(should, there, f"{path}[{at}]")
    elif type(expected) is not type(found) or expected != found:
        yield Differing(path, expected, found)
