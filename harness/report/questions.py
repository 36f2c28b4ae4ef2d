"""Values of single items under the chosen checkpoints, with their texts where a component stores any. Compares nothing.

Checkpoints that were measured by another definition of the component (a row of `vary`, another field) have other questions under the
same ids: their texts are kept apart, and differences between them are not changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.feed.items import TEXTS, read_table, read_texts
from harness.report import numbers
from harness.report.places import Standing
from harness.reward_models.flips import are_answers, full_marks
from harness.reward_models.items import Items
from harness.reward_models.reference import definitions_of
from harness.reward_models.side import Side

MOST = 400
"""Items of a component that are listed at most: those whose value differs most between the chosen checkpoints."""
COLUMNS = ("id", *TEXTS, "answer", "reason")
PROMPT, TARGET, ANSWER = 4_000, 1_000, 2_000
"""Characters of each that are shown."""


class Strings:
    """Numbers for texts, each stored once; 0 is no text."""

    def __init__(self) -> None:
        self._at: dict[str, int] = {"": 0}

    def number(self, text: Any, limit: int) -> int:
        """The number of a text, which is cut at `limit` characters; 0 for anything but a non-empty str."""
        return self._at.setdefault(numbers.cut(text, limit), len(self._at)) if isinstance(text, str) and text else 0

    @property
    def all(self) -> list[str]:
        """The texts by number."""
        return list(self._at)


def questions(name: str, places: Sequence[Standing], sides: Sequence[Side], strings: Strings) -> dict[str, Any]:
    """A component's items under the checkpoints of `sides`, which are those at `places`. `why`: why there are none."""
    found = [side.coordinates[name].items if name in side.coordinates else None for side in sides]
    known = [one for one in found if isinstance(one, Items)]
    if not known:
        reasons = [one.reason for one in found if one is not None and not isinstance(one, Items)]
        return {"n": 0, "why": reasons[0] if reasons else "it was not measured"}
    higher = next(side.coordinates[name].measurement.higher_is_better for side in sides if name in side.coordinates)
    answers = all(map(are_answers, known))
    ids = list(dict.fromkeys(identity for one in known for identity in one.layout.ids))
    row = {identity: index for index, identity in enumerate(ids)}
    values = np.full((len(found), len(ids)), np.nan)
    right = np.full((len(found), len(ids)), -1)
    for index, one in enumerate(found):
        if isinstance(one, Items):
            at = [row[identity] for identity in one.layout.ids]
            values[index, at] = one.values
            right[index, at] = full_marks(one, higher_is_better=higher)
    kinds = _kinds(name, places)
    kept = _most_moved(values, right if answers else None, kinds)
    kept_ids = [ids[index] for index in kept]
    texts = [_texts(place, name, set(kept_ids)) for place in places]
    by_kind = [[one for one, own in zip(texts, kinds, strict=True) if own == kind] for kind in range(max(kinds) + 1)]
    return {
        "n": len(ids),
        "answers": answers,
        "ids": kept_ids,
        "kind": kinds,
        "values": [[numbers.error(number) for number in values[index, kept].tolist()] for index in range(len(found))],
        "right": [right[index, kept].tolist() for index in range(len(found))] if answers else None,
        "prompt": _shared(by_kind, "prompt", kept_ids, strings, PROMPT),
        "target": _shared(by_kind, "target", kept_ids, strings, TARGET),
        "answer": _each(texts, "answer", kept_ids, strings),
        "reason": _each(texts, "reason", kept_ids, strings),
    }


def _kinds(name: str, places: Sequence[Standing]) -> list[int]:
    """For each checkpoint, the number of the component's definition that it was measured by."""
    known: dict[str | None, int] = {}
    return [known.setdefault(definitions_of(place.vector).get(name), len(known)) for place in places]


def _most_moved(values: np.ndarray[Any, Any], right: np.ndarray[Any, Any] | None, kinds: Sequence[int]) -> list[int]:
    """Columns that differ between rows of one kind, those with the widest range first, at most MOST; in the items' order.

    An answer that was scored under some checkpoints only counts as different too.
    """
    widest = np.zeros(values.shape[1])
    moved = np.zeros(values.shape[1], dtype=bool)
    for kind in set(kinds):
        rows = np.asarray(kinds) == kind
        spread = np.fmax.reduce(values[rows], axis=0) - np.fmin.reduce(values[rows], axis=0)
        moved |= spread > 0
        if right is not None:
            moved |= right[rows].min(axis=0) != right[rows].max(axis=0)
        widest = np.fmax(widest, spread)
    order = [index for index in np.argsort(-widest, kind="stable").tolist() if moved[index]]
    return sorted(order[:MOST])


def _texts(place: Standing, name: str, wanted: set[str]) -> dict[str, dict[str, Any]]:
    """Column -> item -> text, of one checkpoint's table."""
    component = next((c for c in place.vector.components if c.name == name), None)
    where = None if component is None else component.detail.get("items")
    if not isinstance(where, str) or not wanted:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for table in (read_table(place.run.folder / where, COLUMNS), read_texts(place.run.folder, where)):
        if table is None or "id" not in table:
            continue
        rows = [(index, str(identity)) for index, identity in enumerate(table["id"]) if str(identity) in wanted]
        found |= {
            column: {identity: table[column][index] for index, identity in rows}
            for column in COLUMNS[1:]
            if column in table
        }
    return found


def _shared(
    by_kind: Sequence[Sequence[dict[str, dict[str, Any]]]],
    column: str,
    ids: Sequence[str],
    strings: Strings,
    limit: int,
) -> list[list[int]] | None:
    """For each kind and item a text that all its checkpoints share (the last one's). None where no table has the column."""
    having = [[of[column] for of in texts if column in of] for texts in by_kind]
    if not any(having):
        return None
    return [
        [
            strings.number(next((of[identity] for of in reversed(own) if of.get(identity)), None), limit)
            for identity in ids
        ]
        for own in having
    ]


def _each(
    texts: Sequence[dict[str, dict[str, Any]]], column: str, ids: Sequence[str], strings: Strings
) -> list[list[int]] | None:
    """A text per checkpoint and item; None where no table has the column."""
    if not any(column in of for of in texts):
        return None
    return [[strings.number(of.get(column, {}).get(identity), ANSWER) for identity in ids] for of in texts]
