"""A field from a file of the user's: pairs with `q` and `r`, or training data in one of the forms that trainers read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from harness.core.errors import DataError, why_unreadable
from harness.core.pair import Pair
from harness.tasks.reward_env.conversation import Conversation, ConversationField
from harness.tasks.reward_env.dataset_info import is_dataset_info, read_entry
from harness.tasks.reward_env.field import PairField
from harness.tasks.reward_env.forms import read_record, recognise
from harness.tasks.reward_env.reading import Reading
from harness.tasks.reward_env.records import Located, read_records

Item = TypeVar("Item", Pair, Conversation)
FileFormat = Literal["auto", "pairs", "messages", "sharegpt", "alpaca", "query", "completion", "preference"]


def read_field(
    path: Path, *, name: str, file_format: FileFormat = "auto", chat_template: Path | None = None
) -> PairField | ConversationField:
    """Read a field file. The form is recognised by the keys of its first record unless given.

    `path` may be LLaMA-Factory's `dataset_info.json`, or one of its data sets as `dataset_info.json#name`. `source` counts
    the answers that the data exclude from training (`undesired_left_out`, `rejected_left_out`, `masked_turns`).

    Raises DataError naming file and place for anything that cannot be scored: malformed JSON, text that is not UTF-8,
    an empty r, an empty file, a record of another form.
    """
    source: dict[str, Any] = {"file": path.name}
    if is_dataset_info(str(path)) and file_format == "auto":
        entry = read_entry(str(path))
        records, form = list(entry.records()), entry.form
        source = {"file": ", ".join(file.name for file in entry.files), "dataset_info": entry.name}
    else:
        records = list(read_records(path))
        form = recognise(records[0]) if file_format == "auto" and records else file_format
    if not records:
        raise DataError(f"field {name!r} is empty: {path} holds no records")
    source["format"] = form
    readings = [read_record(record, index, form) for index, record in enumerate(records)]
    counts = {
        "undesired_left_out": sum(reading.n_undesired for reading in readings),
        "rejected_left_out": sum(reading.n_rejected for reading in readings),
        "masked_turns": sum(reading.n_masked for reading in readings),
    }
    source |= {key: count for key, count in counts.items() if count}
    pairs, conversations = _items(records, readings)
    if pairs:
        if chat_template is not None:
            raise DataError(f"field {name!r}: chat_template goes with conversations, but {path} holds pairs of text")
        return PairField(name=name, source=source, content=_unique(pairs, path))
    if not conversations:
        left_out = " and ".join(f"{count} {key.replace('_', ' ')}" for key, count in counts.items() if count)
        raise DataError(f"field {name!r} is empty: no answer in {path} is one that its authors train on ({left_out})")
    template = None
    if chat_template is not None:
        try:
            template = chat_template.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"field {name!r}: cannot read chat template {chat_template}: {why_unreadable(error)}"
            ) from error
        source["chat_template"] = chat_template.name
    return ConversationField(name=name, source=source, content=_unique(conversations, path), chat_template=template)


def _items(records: Sequence[Located], readings: Sequence[Reading]) -> tuple[list[Pair], list[Conversation]]:
    pairs: list[Pair] = []
    conversations: list[Conversation] = []
    for record, reading in zip(records, readings, strict=True):
        if isinstance(reading.item, Pair):
            pairs.append(reading.item)
        elif reading.item is not None:
            conversations.append(reading.item)
        if pairs and conversations:
            raise DataError(
                f"{record.where}: texts and messages are mixed; every record of a file is a pair of texts, or none is"
            )
    return pairs, conversations


def _unique(items: Sequence[Item], path: Path) -> tuple[Item, ...]:
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise DataError(f"{path}: id {item.id!r} stands twice; ids must be unique, or left out")
        seen.add(item.id)
    return tuple(items)
