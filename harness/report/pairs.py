"""Every pair of the chosen checkpoints compared item by item, as arrays. The arithmetic is `reward_models.comparison`'s."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from harness.report import numbers
from harness.reward_models.comparison import Comparison, compare_sides
from harness.reward_models.component_comparison import WORDS, ComponentComparison
from harness.reward_models.side import Side

NUMBERS = ("change", "stderr", "low", "high", "p", "holm", "detectable")


def pairs(sides: Sequence[Side], names: Sequence[str]) -> dict[str, Any]:
    """Columns per component and of the scalar, an entry per pair (0, 1), (0, 2), ..., (1, 2), ...: later against earlier.

    `word`: number in `words`; `status` and `reason`: numbers in `texts`, 0 for none. `up`, `down`: answers that became
    right, and wrong.
    """
    texts: dict[str, int] = {"": 0}
    made = [compare_sides([before], [after]) for before, after in combinations(sides, 2)]
    found = [{row.name: row for row in one.components} for one in made]
    return {
        "words": list(WORDS),
        "components": {name: _component([of.get(name) for of in found], texts) for name in names},
        "scalar": _scalar(made, texts),
        "remarks": [[_number(words, texts) for words in one.remarks] for one in made],
        "texts": list(texts),
    }


def _number(text: str | None, texts: dict[str, int]) -> int:
    return texts.setdefault(text or "", len(texts))


def _component(rows: Sequence[ComponentComparison | None], texts: dict[str, int]) -> dict[str, Any]:
    columns: dict[str, list[Any]] = {
        key: [] for key in (*NUMBERS, "n", "clusters", "word", "status", "reason", "up", "down")
    }
    for row in rows:
        if row is None:
            for column in columns.values():
                column.append(None)
            continue
        for key, entry in (
            ("change", numbers.value(row.change)),
            ("stderr", numbers.error(row.stderr)),
            ("low", None if row.interval is None else numbers.value(row.interval.low)),
            ("high", None if row.interval is None else numbers.value(row.interval.high)),
            ("p", numbers.error(row.p)),
            ("holm", numbers.error(row.p_holm)),
            ("detectable", numbers.error(row.detectable)),
            ("n", row.n_paired),
            ("clusters", row.n_clusters),
            ("word", WORDS.index(row.word)),
            ("status", _number(row.status, texts)),
            ("reason", _number(row.reason, texts)),
            ("up", None if row.flips is None else len(row.flips.to_right)),
            ("down", None if row.flips is None else len(row.flips.to_wrong)),
        ):
            columns[key].append(entry)
    return columns


def _scalar(made: Sequence[Comparison], texts: dict[str, int]) -> dict[str, Any]:
    rows = [one.scalar for one in made]
    return {
        "change": [numbers.value(row.change) for row in rows],
        "stderr": [numbers.error(row.stderr) for row in rows],
        "low": [None if row.interval is None else numbers.value(row.interval.low) for row in rows],
        "high": [None if row.interval is None else numbers.value(row.interval.high) for row in rows],
        "p": [numbers.error(row.p) for row in rows],
        "detectable": [numbers.error(row.detectable) for row in rows],
        "reason": [_number(row.reason, texts) for row in rows],
    }
