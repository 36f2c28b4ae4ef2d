"""API keys removed from text before it is shown or stored, in whatever encoding an endpoint echoes them. Pure text."""

from __future__ import annotations

import base64
import html
import json
import re
import urllib.parse
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

MASK = "***"
PIECE = 8
"""Characters of a key, in a row, that count as the key: text is cut short in many places."""
WORDS = re.compile(r"[a-z]+([-_ ][a-z]+)*", re.IGNORECASE)
"""A key that is made of words: pieces of it are words too, and only the whole is the key."""
SHORTEST = 4
"""Characters of a key below which it is no secret, and would be found everywhere."""


def hide(text: str, keys: Iterable[str | None]) -> str:
    """The text without the keys and without pieces of them: plain, url-encoded, in base64, hex, JSON or HTML, in any case of letters."""
    for key in keys:
        if key and len(key) >= SHORTEST:
            text = _without(text, key)
    return text


def hide_in(value: Any, keys: Iterable[str | None]) -> Any:
    """A JSON body of which every text, names included, went through `hide`.

    What a model said (`choices`) is left alone where the key is a common word, such as a server without keys is given: no number
    may depend on that.
    """
    known = [key for key in keys if key and len(key) >= SHORTEST]
    if not known:
        return value
    if isinstance(value, dict) and "choices" in value:
        said = _clean(value["choices"], [key for key in known if len(key) >= PIECE and not key.isalpha()])
        rest = {name: inner for name, inner in value.items() if name != "choices"}
        return {**_clean(rest, known), "choices": said}
    return _clean(value, known)


def _clean(value: Any, keys: list[str]) -> Any:
    if isinstance(value, str):
        return hide(value, keys) if len(value) >= SHORTEST else value
    if isinstance(value, list):
        return [_clean(one, keys) for one in value]
    if isinstance(value, dict):
        return {_clean(name, keys): _clean(one, keys) for name, one in value.items()}
    return value


class _Written(NamedTuple):
    """How a key may stand in a text, in lower case. `pieces`: by length, what is hidden. `parts`: each piece holds one of them."""

    parts: tuple[str, ...]
    pieces: tuple[tuple[int, set[str]], ...]


@lru_cache(maxsize=64)
def _written(key: str) -> _Written:
    plain = key.encode()
    ways = {
        key,
        key[::-1],
        urllib.parse.quote(key, safe=""),
        urllib.parse.quote(key),
        urllib.parse.quote_plus(key),
        urllib.parse.quote(urllib.parse.quote(key, safe=""), safe=""),
        "".join(f"%{byte:02x}" for byte in plain),
        html.escape(key),
        json.dumps(key)[1:-1],
        repr(key)[1:-1],
        plain.hex(),
        plain.hex(" "),
        plain.hex(":"),
        "".join(f"\\u{ord(letter):04x}" for letter in key),
        "".join(f"\\x{byte:02x}" for byte in plain),
        "".join(f"&#{ord(letter)};" for letter in key),
    }
    for before in range(3):  # base64 writes three bytes at a time, so what stands before decides how a key is written
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * before + plain).decode().rstrip("=")
            first = (before * 8 + 5) // 6
            last = len(text) if (before + len(plain)) % 3 == 0 else len(text) - 1
            ways.add(text[first:last])
    ways.add(base64.b32encode(plain).decode().rstrip("="))
    sizes: dict[int, set[str]] = {}
    parts: set[str] = set()
    for way in {way.lower() for way in ways if len(way) >= SHORTEST}:
        # As many characters of it as stand for PIECE characters of the key.
        size = len(way) if len(key) <= PIECE or WORDS.fullmatch(key) else max(PIECE, PIECE * len(way) // len(key))
        sizes.setdefault(size, set()).update(way[at : at + size] for at in range(len(way) - size + 1))
        half = size // 2
        parts.update(way[at : at + half] for at in range(0, len(way) - half + 1, half))
    return _Written(tuple(parts), tuple(sizes.items()))


def _without(text: str, key: str) -> str:
    lower = text.lower()
    if len(lower) != len(text):  # a letter whose small form is two characters
        lower = "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text)
    written = _written(key)
    if not any(part in lower for part in written.parts):
        return text
    covered = bytearray(len(text))
    for size, pieces in written.pieces:
        for at in range(len(lower) - size + 1):
            if lower[at : at + size] in pieces:
                covered[at : at + size] = b"\1" * size
    made: list[str] = []
    for at, letter in enumerate(text):
        if not covered[at]:
            made.append(letter)
        elif at == 0 or not covered[at - 1]:
            made.append(MASK)
    return "".join(made)
