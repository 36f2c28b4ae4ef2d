"""A results document as JSON, in which a simulation that cannot be parsed does not affect the others.

A model can write arguments nested a million deep, or an integer of a million digits; upstream puts them into the one
document with everything else. Then the simulations are separated by their brackets and parsed one by one.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from harness.core.errors import DataError

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


class Document(NamedTuple):
    """The simulations, with a ValueError in place of each that cannot be parsed, and all the rest. `simulations` None: it has
    no such array."""

    rest: Any
    simulations: list[Any] | None


def load_document(text: str, where: str) -> Document:
    """Raises DataError that begins with `where`."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: not valid JSON ({error.msg} at line {error.lineno} column {error.colno}); "
            "was it cut off? restore it or record it again"
        ) from error
    except (ValueError, RecursionError) as error:
        return _apart(text, where, error)
    simulations = value.get("simulations") if isinstance(value, dict) else None
    return Document(value, simulations if isinstance(simulations, list) else None)


def _apart(text: str, where: str, cause: Exception) -> Document:
    start, end, pieces = _elements(text)
    if not pieces:
        raise DataError(f"{where}: cannot be parsed ({cause}); record it again") from cause
    try:
        rest = json.loads(f"{text[:start]}[]{text[end:]}")
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: cannot be parsed ({error}); record it again") from error
    return Document(rest, [_parsed(text[first:last]) for first, last in pieces])


def _parsed(piece: str) -> Any:
    try:
        return json.loads(piece)
    except RecursionError:
        return ValueError("nested too deeply")
    except ValueError as error:
        return error


def _elements(text: str) -> tuple[int, int, list[tuple[int, int]]]:
    """Where the array `simulations` of the outermost object begins and ends, and the same of each object in it."""
    depth = 0
    inside = False
    start = end = first = 0
    pieces: list[tuple[int, int]] = []
    for token in TOKEN.finditer(text):
        mark = token[0][0]
        if mark in "[{":
            depth += 1
            if depth == 2 and mark == "[" and text[: token.start()].rstrip().endswith('"simulations":'):
                inside, start = True, token.start()
            elif inside and depth == 3:
                first = token.start()
        elif mark in "]}":
            if inside and depth == 3:
                pieces.append((first, token.end()))
            elif inside and depth == 2:
                return start, token.end(), pieces
            depth -= 1
    return start, end, []
