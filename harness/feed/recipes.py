"""Which runs were trained on one mixture: repeats within a scale, and the same mixture at another scale. Knows no file.

A run's recipe is the mixture it was trained on, and the order of mixtures where it changed on the way. Names do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.errors import DataError
from harness.feed.runs import NoShares, Run, Shares, shares_up_to

TOLERANCE = 5e-4
"""Shares that differ by no more are the same: logged shares are rounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a run was trained on: each mixture in turn (equal ones after each other once), and all of it by tokens."""

    turns: tuple[Shares, ...]
    total: Shares

    def same(self, other: Recipe) -> bool:
        """Whether no share differs by more than TOLERANCE."""
        return len(self.turns) == len(other.turns) and all(
            _close(one, two) for one, two in zip((*self.turns, self.total), (*other.turns, other.total), strict=True)
        )

    def __str__(self) -> str:
        words = ", ".join(f"{domain} {share:.3g}" for domain, share in self.total.items() if share > 0)
        return words if len(self.turns) == 1 else f"{words} in {len(self.turns)} turns"


def recipe_of(run: Run) -> Recipe | NoShares:
    """A run's recipe up to its last step; or why it is not known."""
    total = shares_up_to(run)[-1]
    if isinstance(total, NoShares):
        return total
    turns: list[Shares] = []
    seen: int | None = 0
    for step in run.steps:
        before, seen = seen, step.tokens_seen
        trained = before is None or seen is None or seen != before
        if step.shares is not None and trained and not (turns and _close(turns[-1], step.shares)):
            turns.append(step.shares)
    return Recipe(turns=tuple(turns), total=total)


def grouped(recipes: Sequence[Recipe], names: Sequence[str]) -> list[int]:
    """Of each recipe the number of its mixture, counted in order of first appearance.

    Raises DataError where that is ambiguous: a is the same as b, and b as c, but c not as a.
    """
    groups: list[list[int]] = []
    for index, recipe in enumerate(recipes):
        near = [other for other in range(index) if recipe.same(recipes[other])]
        home = next((group for group in groups if near and near[0] in group), None)
        if home is None:
            groups.append([index])
            continue
        apart = [(index, other) for other in home if other not in near]
        apart += [(home[0], other) for other in near if other not in home]
        for one, other in apart:
            raise DataError(
                f"{names[one]} ({recipes[one]}) and {names[other]} ({recipes[other]}) may or may not be one mixture: both are "
                f"within {TOLERANCE:g} of a third in every share, and not of each other; round the shares in their mixture.json"
            )
        home.append(index)
    return [number for index in range(len(recipes)) for number, group in enumerate(groups) if index in group]


def matched(
    first: Sequence[Recipe], second: Sequence[Recipe], names: tuple[Sequence[str], Sequence[str]]
) -> list[int | None]:
    """Of each of the first mixtures, the one of the second that is the same; None where there is none. Raises DataError for two."""
    found: list[int | None] = []
    for index, recipe in enumerate(first):
        same = [other for other, candidate in enumerate(second) if recipe.same(candidate)]
        if len(same) > 1:
            raise DataError(
                f"{names[0][index]} ({recipe}) may be {names[1][same[0]]} or {names[1][same[1]]}; both are within "
                f"{TOLERANCE:g} in every share; round the shares in their mixture.json"
            )
        if same and same[0] in found:
            raise DataError(
                f"{names[1][same[0]]} may be {names[0][found.index(same[0])]} or {names[0][index]}; both are within "
                f"{TOLERANCE:g} in every share; round the shares in their mixture.json"
            )
        found.append(same[0] if same else None)
    return found


def _close(one: Shares, other: Shares) -> bool:
    return all(abs(one.get(domain, 0.0) - other.get(domain, 0.0)) <= TOLERANCE + 1e-9 for domain in {*one, *other})
