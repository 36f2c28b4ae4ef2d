"""A field from a file of the user's: JSON lines with `q` and `r`, or SFT data in one of three common forms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from harness.core.errors import DataError
from harness.core.pair import Pair
from harness.tasks.reward_env.conversation import (
    Conversation,
    ConversationField,
    from_alpaca,
    from_messages,
    from_sharegpt,
)
from harness.tasks.reward_env.field import PairField
from harness.tasks.reward_env.records import Located, read_records

Item = TypeVar("Item", Pair, Conversation)
FileFormat = Literal["auto", "pairs", "messages", "sharegpt", "alpaca"]

_KEYS: dict[str, tuple[str, ...]] = {
    "pairs": ("q", "r"),
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
}
_CONVERSATIONS: dict[str, Callable[[Located, int], Conversation]] = {
    "messages": from_messages,
    "sharegpt": from_sharegpt,
    "alpaca": from_alpaca,
}


def read_field(
    path: Path, *, name: str, file_format: FileFormat = "auto", chat_template: Path | None = None
) -> PairField | ConversationField:
    """Read a field file. The form is recognised by the keys of its first record unless given.

    Raises DataError naming file and line for anything that cannot be scored: malformed JSON, text that is not UTF-8,
    an empty r, an empty file, a record of another form.
    """
    records = list(read_records(path))
    if not records:
        raise DataError(f"field {name!r} is empty: {path} holds no records")
    form = _recognise(records[0]) if file_format == "auto" else file_format
    for record in records:
        missing = [key for key in _KEYS[form] if key not in record.value]
        if missing:
            raise DataError(
                f"{record.where}: key {missing[0]!r} is missing; every record of a {form} file has {_expected(form)}"
            )
    source: dict[str, Any] = {"file": path.name, "format": form}
    if form == "pairs":
        if chat_template is not None:
            raise DataError(f"field {name!r}: chat_template goes with conversations, but {path} holds q and r")
        return PairField(name=name, source=source, content=_unique([_pair(r, i) for i, r in enumerate(records)], path))
    template = None
    if chat_template is not None:
        try:
            template = chat_template.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"field {name!r}: cannot read chat template {chat_template}: {error}") from error
        source["chat_template"] = chat_template.name
    conversations = tuple(_CONVERSATIONS[form](record, index) for index, record in enumerate(records))
    return ConversationField(name=name, source=source, content=_unique(conversations, path), chat_template=template)


def _recognise(record: Located) -> str:
    for form, keys in _KEYS.items():
        if all(key in record.value for key in keys):
            return form
    known = "; ".join(f"{form}: {_expected(form)}" for form in _KEYS)
    raise DataError(f"{record.where}: keys {sorted(record.value)} are of no known form ({known})")


def _expected(form: str) -> str:
    return " and ".join(repr(key) for key in _KEYS[form])


def _pair(record: Located, index: int) -> Pair:
    q, r = record.value["q"], record.value["r"]
    if not isinstance(q, str) or not isinstance(r, str):
        raise DataError(f"{record.where}: q and r must be text, found {type(q).__name__} and {type(r).__name__}")
    if not r:
        raise DataError(f"{record.where}: r is empty, so there is nothing to score; remove the pair")
    identity, cluster = record.value.get("id"), record.value.get("cluster")
    return Pair(
        id=str(index if identity is None else identity), q=q, r=r, cluster=None if cluster is None else str(cluster)
    )


def _unique(items: Sequence[Item], path: Path) -> tuple[Item, ...]:
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise DataError(f"{path}: id {item.id!r} stands twice; ids must be unique, or left out")
        seen.add(item.id)
    return tuple(items)
