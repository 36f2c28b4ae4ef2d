"""A field: a named held-out set of (q, r) pairs with an identity. Knows neither model nor score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from harness.core.digest import digest_json
from harness.core.errors import DataError
from harness.core.pair import Pair


class Field(Protocol):
    """Pairs under a tokenizer: a plain field ignores it, a conversation is rendered with its chat template."""

    name: str
    source: dict[str, Any]
    """Where it came from, JSON: data set, revision, file, template."""
    caveat: ClassVar[str | None]
    """A warning that belongs to every score of it; None without one."""

    @property
    def digest(self) -> str:
        """Identity of the content, `sha256:...`."""
        ...

    def __len__(self) -> int: ...

    def pairs(self, tokenizer: Any) -> Sequence[Pair]:
        """The pairs in field order. Raises HarnessError."""
        ...


@dataclass(frozen=True, kw_only=True)
class PairField:
    """A field whose pairs are plain text."""

    caveat: ClassVar[str | None] = None
    name: str
    source: dict[str, Any]
    content: tuple[Pair, ...]

    def __post_init__(self) -> None:
        if not self.content:
            raise DataError(f"field {self.name!r} is empty; it needs at least one (q, r) pair")

    @property
    def digest(self) -> str:
        return digest_json([[pair.id, pair.q, pair.r, pair.cluster] for pair in self.content])

    def __len__(self) -> int:
        return len(self.content)

    def pairs(self, tokenizer: Any) -> Sequence[Pair]:
        return self.content

    def head(self, limit: int) -> PairField:
        """The first `limit` pairs."""
        return replace(self, content=self.content[:limit])

    def prompted(self, template: str) -> PairField:
        """Every q put into `template` in place of `{q}`."""
        before, _, after = template.partition("{q}")
        return replace(self, content=tuple(replace(pair, q=before + pair.q + after) for pair in self.content))
