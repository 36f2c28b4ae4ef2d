"""Two checkpoints compared, component by component and as a whole. Pure arithmetic.

A side is one checkpoint, or the seeds of one training, whose items are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.reward_models.component_comparison import BY_ITEMS, ComponentComparison, Merged, Word, compare_component
from harness.reward_models.holm import holm
from harness.reward_models.scalar_comparison import ScalarComparison, compare_scalars
from harness.reward_models.side import Coordinate, Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`before` and `after`: labels of the checkpoints, several where they are seeds of one training."""

    before: tuple[str, ...]
    after: tuple[str, ...]
    components: tuple[ComponentComparison, ...]
    scalar: ScalarComparison
    remarks: tuple[str, ...] = ()

    def said(self) -> dict[Word, list[str]]:
        """Names of components by what became of them."""
        found: dict[Word, list[str]] = {}
        for component in self.components:
            found.setdefault(component.word, []).append(component.name)
        return found


def compare_sides(before: Sequence[Side], after: Sequence[Side], *, remarks: Sequence[str] = ()) -> Comparison:
    """After against before; several sides are the seeds of one training.

    Components come in the order of `after`, then those that only `before` has.
    """
    names = list(dict.fromkeys(name for side in [*after, *before] for name in side.coordinates))
    pairs = {name: (_found(before, name), _found(after, name)) for name in names}
    merged = {name: Merged.of(*pair) for name, pair in pairs.items()}
    rows = [compare_component(name, before, after, *pairs[name], merged[name]) for name in names]
    rows = [replace(row, p_holm=p) for row, p in zip(rows, holm([row.p for row in rows]), strict=True)]
    return Comparison(
        before=tuple(side.label for side in before),
        after=tuple(side.label for side in after),
        components=tuple(rows),
        scalar=compare_scalars(before, after, rows, merged),
        remarks=(*remarks, *_remarks(before, after)),
    )


def nothing_compared(comparisons: Sequence[Comparison]) -> str | None:
    """Why none of the components could be compared, by name; None where one was."""
    rows = [row for one in comparisons for row in one.components]
    if any(row.status in BY_ITEMS for row in rows):
        return None
    return "nothing can be compared: " + "; ".join(f"{row.name}: {row.status}, {row.reason}" for row in rows)


def _found(sides: Sequence[Side], name: str) -> list[Coordinate]:
    return [side.coordinates[name] for side in sides if name in side.coordinates]


def _remarks(before: Sequence[Side], after: Sequence[Side]) -> list[str]:
    """Differences between the two that a reader should know of and that do not make them incomparable."""
    said = []
    weights = [{side.fingerprint for side in sides if side.fingerprint is not None} for sides in (before, after)]
    if weights[0] & weights[1]:
        said.append("both have the same weights")
    for sides in (before, after):
        known: dict[str, list[str]] = {}
        for side in sides:
            if side.fingerprint is not None:
                known.setdefault(side.fingerprint, []).append(side.label)
        said += [
            f"{', '.join(labels)} have the same weights, so they show no spread between seeds"
            for labels in known.values()
            if len(labels) > 1
        ]
    roles = [{name: one.role for side in sides for name, one in side.coordinates.items()} for sides in (before, after)]
    said += [
        f"{name} is a {roles[0][name]} before and a {role} after, which counts"
        for name, role in roles[1].items()
        if name in roles[0] and roles[0][name] != role
    ]
    for key in dict.fromkeys(key for side in [*before, *after] for key in side.about):
        values = [[side.about.get(key) for side in sides] for sides in (before, after)]
        if None in values[0] + values[1] or values[0][0] == values[1][0]:
            continue
        said.append(f"{key} differs: {values[0][0]} before, {values[1][0]} after")
    return said
