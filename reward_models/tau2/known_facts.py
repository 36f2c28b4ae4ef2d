"""Facts in a text that can be compared: ids, e-mail addresses, phone numbers, names. Patterns only; no task, no model.

Only what has a form of its own is taken for a fact, so that "twenty dollars" or "next Friday" never is.
"""

from __future__ import annotations

import re
from typing import NamedTuple

KINDS: dict[str, re.Pattern[str]] = {
    "e-mail address": re.compile(r"\b([\w.+-]+@[\w-]+(?:\.[\w-]+)+)"),
    "user id": re.compile(r"(?<![\w@.])([a-z]+_[a-z]+_\d{3,5})(?![\w@])", re.IGNORECASE),
    "order id": re.compile(r"(#[A-Z]\d{5,})\b", re.IGNORECASE),
    "payment method": re.compile(r"\b((?:credit_card|gift_card|paypal|certificate)_\d+)\b", re.IGNORECASE),
    "phone number": re.compile(r"(?<![\d-])(\(?\d{3}\)?[ -]?\d{3}-\d{4})(?![\d-])"),
    "zip code": re.compile(r"\bzip(?: ?code)?(?:'s)?(?: is| of|:| to)? ?(\d{5})\b", re.IGNORECASE),
    "reservation": re.compile(
        r"\b(?:reservation|confirmation|booking)(?: (?:number|code|id))?(?: is|:)? ?((?=[A-Z]*\d)[A-Z0-9]{6})\b"
    ),
    "customer id": re.compile(r"\b(C\d{4})\b"),
    "name": re.compile(
        r"\b(?:[Mm]y (?:full )?name is|[Yy]our name is|^You are|[.\n] ?You are) ([A-Z][a-z]+ [A-Z][a-z]+)\b"
    ),
}
"""Kind of fact -> how it looks; the group is the fact."""


class Fact(NamedTuple):
    """A fact as it was written, and its kind."""

    kind: str
    value: str


def facts(text: str) -> list[Fact]:
    """The facts in a text, kind by kind."""
    return [Fact(kind, match[1]) for kind, pattern in KINDS.items() for match in pattern.finditer(text)]


def plain(text: str) -> str:
    """Letters and digits only, lower-cased: `555-123-2002` and `(555) 1232002` are the same."""
    return "".join(character for character in text.casefold() if character.isalnum())
