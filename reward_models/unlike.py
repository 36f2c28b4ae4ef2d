"""Whether measurements of one component are of the same thing, and what differs where they are not. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from harness.reward_models.items import Items
from harness.reward_models.side import Coordinate, Side

ACROSS_TOKENIZERS = ("bits_per_byte", "byte_perplexity", "word_perplexity", "logprob_per_byte")
"""Metrics per byte or word of the text, which do not depend on the tokenizer; nor do answers and rewards."""
VARIABLE = "variable "
"""What the keys of a spec's variables begin with in `Side.about`."""
SHOWN = 60
"""Characters of a value in a message."""


def unlike(measured: Sequence[tuple[Side, Coordinate]]) -> str | None:
    """Why measurements cannot be compared, by name; None where they can.

    Compared are metric, direction, definition and, where values are per token, the tokenizer. What is not known (None) is
    taken to be the same.
    """
    first_side, first = measured[0]
    for side, other in measured[1:]:
        labels = f"{first_side.label} and {side.label}"
        if (first.kind, first.measurement.metric) != (other.kind, other.measurement.metric):
            return f"another metric: {labels} have {_metric(first)} and {_metric(other)}"
        if first.measurement.higher_is_better != other.measurement.higher_is_better:
            return f"another direction: of {labels} one says that higher is better"
        why = _meaning(first.meaning, other.meaning)
        if why is not None:
            varied = _differing(first_side.about, side.about, [key for key in side.about if key.startswith(VARIABLE)])
            hint = f"their spec varies it ({', '.join(varied)})" if varied else f"measure {labels} by one spec"
            return f"another definition: {why}; {hint}"
        tokenizers = {first_side.tokenizer, side.tokenizer} - {None}
        if len(tokenizers) > 1 and _per_token(first) and _per_token(other):
            return f"another tokenizer, and {first.measurement.metric} is per token; bits_per_byte compares {labels}"
        changed = [item for item, text in first.contents.items() if other.contents.get(item, text) != text]
        if changed:
            return f"other questions under the same ids in {labels}: {len(changed)} of them, {changed[0]} first"
    return None


def _metric(coordinate: Coordinate) -> str:
    return f"{coordinate.measurement.metric} ({coordinate.kind})"


def _per_token(coordinate: Coordinate) -> bool:
    if coordinate.measurement.metric.partition(",")[0] in ACROSS_TOKENIZERS:
        return False
    if isinstance(coordinate.items, Items):
        return not bool(coordinate.items.unit_interval.all())
    return coordinate.kind not in ("lm_eval", "tau2") or not 0 <= (coordinate.measurement.raw or 0) <= 1


def _meaning(first: Mapping[str, JsonValue], other: Mapping[str, JsonValue]) -> str | None:
    known = [meaning.get("definition") for meaning in (first, other)]
    if None not in known and known[0] == known[1]:
        return None
    differ = _differing(first, other, [key for key in first if key != "definition"])
    if differ:
        return ", ".join(differ)
    return None if None in known else "its template, settings or overflow policy"


def _differing(first: Mapping[str, JsonValue], other: Mapping[str, JsonValue], keys: Sequence[str]) -> list[str]:
    """What is known of both and is not the same, as `key one and other`."""
    return [
        f"{key} {_short(first[key])} and {_short(other[key])}"
        for key in keys
        if None not in (first.get(key), other.get(key)) and first[key] != other[key]
    ]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
