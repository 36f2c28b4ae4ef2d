"""Which answers became right and which wrong, by name. Pure: items in, names out."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.reward_models.items import Items, Layout

ALMOST = 1e-6
"""A reward this near to 1 is a success, as in tau2-bench."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """Items that both sides scored, by what became of them; `stayed`: the others, right or wrong as before."""

    to_right: tuple[str, ...]
    to_wrong: tuple[str, ...]
    stayed: int


def flips(before: Sequence[Items], after: Sequence[Items], *, higher_is_better: bool = True) -> Flips | None:
    """Of answers and rewards (within [0, 1], mostly 0 or 1); None of anything else.

    A side is one measurement, or several of the same items (seeds): an item flips where it is right in every seed of one
    side and in no seed of the other. Right is full marks: a reward of 1, an error of 0.
    """
    every = [*before, *after]
    if not before or not after or not all(map(are_answers, every)):
        return None
    where = after[0].layout
    common = _common(every)
    if common is None:
        return None
    rows, right = common, [full_marks(found, higher_is_better=higher_is_better) for found in every]
    at = [mine[picked] for mine, picked in zip(right, rows, strict=True)]
    was, now = np.stack(at[: len(before)]), np.stack(at[len(before) :])
    up = ~was.any(axis=0) & now.all(axis=0)
    down = was.all(axis=0) & ~now.any(axis=0)
    picked = rows[len(before)]
    return Flips(
        to_right=_names(where, picked[up]),
        to_wrong=_names(where, picked[down]),
        stayed=int(len(picked) - up.sum() - down.sum()),
    )


def are_answers(found: Items) -> bool:
    """Whether values are answers or rewards: within [0, 1], and half of them or more 0 or 1."""
    whole = int(((found.values == 0) | (found.values == 1)).sum())
    return bool(found.unit_interval.all()) and 2 * whole >= len(found.values)


def full_marks(found: Items, *, higher_is_better: bool = True) -> npt.NDArray[np.bool_]:
    """Of each item, whether it is right: a reward of 1, an error of 0."""
    return found.values >= 1 - ALMOST if higher_is_better else found.values <= ALMOST


def _common(every: Sequence[Items]) -> list[npt.NDArray[np.int64]] | None:
    """Of each, the rows of the items that all scored, in one order; None where there are none."""
    first = every[0].layout
    if all(first.same(found.layout) for found in every):
        return [np.arange(len(first.ids))] * len(every)
    places = [{identity: row for row, identity in enumerate(found.layout.ids)} for found in every]
    ids = [identity for identity in first.ids if all(identity in place for place in places)]
    if not ids:
        return None
    return [np.array([place[identity] for identity in ids]) for place in places]


def _names(where: Layout, rows: npt.NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(_name(where.ids[row], where.clusters[row]) for row in rows.tolist())


def _name(identity: str, cluster: Hashable) -> str:
    """A simulation by task and trial (`7 trial 2`), a question by its id."""
    task = str(cluster)
    rest = identity.removeprefix(f"{task}-")
    return f"{task} trial {rest}" if identity != rest and rest.isdigit() else identity
