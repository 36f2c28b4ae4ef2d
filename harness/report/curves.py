"""A feed as columns for the curves: a list per quantity, one entry per checkpoint. No statistics but those in the feed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from harness.core.place import suffix
from harness.core.vector import ComponentRecord, RewardVector
from harness.feed.plot import UNITS
from harness.report import numbers
from harness.report.places import Standing
from harness.reward_models.reference import definitions_of
from harness.reward_models.statistics import believable

Column = list[float | None]


def curves(places: Sequence[Standing]) -> dict[str, Any]:
    """Components, mixture domains and the scalar over all checkpoints, with both kinds of errors.

    `between`: of differences between neighbouring steps, shared by the two (change_stderr / sqrt 2, as
    `Feed.matrix(errors="paired")`; a trajectory's first step has its successor's). `sample`: over another sample of items.
    """
    names = list(dict.fromkeys(c.name for place in places for c in place.vector.components))
    by_name = [{component.name: component for component in place.vector.components} for place in places]
    columns = [_component(name, places, [of.get(name) for of in by_name]) for name in names]
    domains = list(dict.fromkeys(d for place in places if place.vector.mixture for d in place.vector.mixture.domains))
    shares = [place.vector.mixture.normalized() if place.vector.mixture else None for place in places]
    return {
        "lane": [place.lane for place in places],
        "lanes": [place.lane_name for place in {place.lane: place for place in places}.values()],
        "step": [place.vector.step for place in places],
        "label": [place.label for place in places],
        "tokens": [place.vector.checkpoint.tokens_seen for place in places],
        "status": [place.vector.status for place in places],
        "components": columns,
        "scalar": {
            "raw": [numbers.value(place.vector.scalar) for place in places],
            "sample": [numbers.error(place.vector.scalar_stderr) for place in places],
            "between": _between(places, lambda vector: vector.gain_stderr),
        },
        "domains": domains,
        "shares": [[None if of is None else numbers.error(of.get(domain, 0.0)) for of in shares] for domain in domains],
    }


def _component(name: str, places: Sequence[Standing], records: Sequence[ComponentRecord | None]) -> dict[str, Any]:
    known = [record for record in records if record is not None]
    last = known[-1]
    return {
        "name": name,
        "kind": last.kind,
        "role": last.role,
        "metric": last.metric,
        "unit": UNITS.get(last.metric, last.metric),
        "higher": last.higher_is_better,
        "weight": numbers.value(last.weight),
        "n_items": max(record.n_items for record in known),
        "remark": _remark(name, places, known),
        "varied": _varied(name, places),
        "raw": [None if record is None else numbers.value(record.raw) for record in records],
        "sample": [
            None if record is None else numbers.error(believable(record.raw, record.stderr, record.n_scored))
            for record in records
        ],
        "between": _between(places, lambda vector: _change_error(vector, name)),
    }


def _change_error(vector: RewardVector, name: str) -> float | None:
    return next((c.change_stderr for c in vector.components if c.name == name), None)


def _between(places: Sequence[Standing], of: Callable[[RewardVector], float | None]) -> Column:
    errors = [of(place.vector) for place in places]
    for index in range(len(places) - 1):
        here, following = places[index], places[index + 1]
        first = index == 0 or places[index - 1].lane != here.lane
        if first and following.lane == here.lane and following.vector.previous_step == here.vector.step:
            errors[index] = errors[index + 1]
    return [None if known is None else numbers.error(known / math.sqrt(2)) for known in errors]


def _remark(name: str, places: Sequence[Standing], known: Sequence[ComponentRecord]) -> str | None:
    """Why the values of one curve are not all comparable; None where they are."""
    definitions = [of - {None} for of in _by_row(name, places).values()]
    tokenizers = {place.vector.checkpoint.tokenizer for place in places} - {None}
    metrics = {record.metric for record in known}
    if len(metrics) > 1:
        return f"not comparable throughout: measured by {' and '.join(sorted(metrics))}"
    n = max(map(len, definitions))
    if n > 1:
        return f"not comparable throughout: {n} definitions (content, template, settings or revision)"
    if len(tokenizers) > 1 and known[-1].metric in UNITS:
        return f"not comparable throughout: {len(tokenizers)} tokenizers, and the value is per token"
    return None


def _by_row(name: str, places: Sequence[Standing]) -> dict[str, set[str | None]]:
    """Suffix of a row of the spec's `vary` -> definitions of the component in it."""
    found: dict[str, set[str | None]] = {}
    for place in places:
        found.setdefault(suffix(place.vector.variables), set()).add(definitions_of(place.vector).get(name))
    return found


def _varied(name: str, places: Sequence[Standing]) -> str | None:
    """A message on the variables by which a component's definition differs between rows; None where it does not."""
    rows = _by_row(name, places)
    if len(rows) < 2 or len(set.union(*rows.values()) - {None}) < 2:
        return None
    variables = ", ".join(dict.fromkeys(key for place in places for key in place.vector.variables))
    return f"each value of {variables} has prompts of its own; only steps of one value are compared"
