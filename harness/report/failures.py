"""Everything that failed or was only partly measured, with its cause, and the vectors' warnings. From the feed alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.report import numbers
from harness.report.places import Standing
from harness.reward_models.telling import telling

REASON = 2_000
"""Characters of a cause that are shown."""


def failures(places: Sequence[Standing]) -> dict[str, Any]:
    """`causes`: (status, component, cause, n unscored items, checkpoints), failed before partial and the most frequent first;
    `warnings`: (text, checkpoints).
    """
    causes: dict[tuple[str, str, str], list[int]] = {}
    unscored: dict[tuple[str, str, str], int] = {}
    warnings: dict[str, list[int]] = {}
    for index, place in enumerate(places):
        for component in place.vector.components:
            if component.status != "ok":
                key = (component.status, component.name, numbers.cut(component.reason or "no cause given", REASON))
                causes.setdefault(key, []).append(index)
                unscored[key] = unscored.get(key, 0) + component.n_items - component.n_scored
        for words in telling(place.vector):
            warnings.setdefault(numbers.cut(words, REASON), []).append(index)
    order = sorted(causes, key=lambda key: (key[0] != "failed", -len(causes[key])))
    return {
        "causes": [[*key, unscored[key], causes[key]] for key in order],
        "warnings": [[words, of] for words, of in warnings.items()],
    }
