"""One (q, r) pair of a field: text in, text to be scored."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A question q and the response r whose log-probability given q is the score.

    `id` names the pair within its field; pairs of one `cluster` share a context (turns of a conversation), which
    the standard error respects.
    """

    id: str
    q: str
    r: str
    cluster: str | None = None
