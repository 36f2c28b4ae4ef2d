"""Two measurements of one component compared item by item, and weighted sums of components that share items. Pure.

Items are common to all checkpoints: what an item does to both cancels, so a paired error is a fraction of the unpaired
one. The error of a gain is that of sum_i lambda_i change_i, in which components on the same items are taken together.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.core.measurement import Interval
from harness.reward_models.interval import Part, cubed, interval, parts, t_tail, terms
from harness.reward_models.items import Floats, Ints, Items, Layout, NoItems, layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A component's difference, later minus earlier, over the items that both scored; in the unit of its values.

    `stderr`, `interval` (95%) and `p` (two-sided, of no change) are None with fewer than two clusters. `p` is McNemar's
    exact one for 0/1 items without clusters, which has no `df`. `n_answers`: for answers, the effective number of equally
    weighted ones, 1 / sum_s (weight_s^2 / n_s); None for other values.
    """

    change: float
    stderr: float | None
    df: float | None
    interval: Interval | None
    p: float | None
    n_paired: int
    n_clusters: int
    n_answers: float | None = None


def differences(before: Items, after: Items) -> Items | NoItems:
    """After minus before over the common items, members weighted as in `after`."""
    bounded = (
        before.unit_interval & after.unit_interval if len(before.unit_interval) == len(after.unit_interval) else None
    )
    if bounded is None:
        return NoItems("its members are others")
    if before.layout.same(after.layout):
        values, where = _difference(after.values, before.values, after.layout.strata), after.layout
    else:
        at = {identity: row for row, identity in enumerate(before.layout.ids)}
        rows = [row for row, identity in enumerate(after.layout.ids) if identity in at]
        strata = after.layout.strata[rows]
        if len(set(strata.tolist())) < len(after.layout.weights):
            return NoItems("no item was scored both times" if not rows else "a member has no item scored both times")
        earlier = [at[after.layout.ids[row]] for row in rows]
        values = _difference(after.values[rows], before.values[earlier], strata)
        where = layout(
            [after.layout.ids[row] for row in rows],
            [after.layout.clusters[row] for row in rows],
            strata=strata.tolist(),
            weights=after.layout.weights.tolist(),
        )
    return Items(layout=where, values=values, unit_interval=bounded, are_differences=True)


def _difference(after: Floats, before: Floats, strata: Ints) -> Floats:
    """after - before; in a stratum where they are equal but for rounding, equal: rounding is no spread."""
    values = after - before
    n_strata = int(strata.max()) + 1
    for rows in [slice(None)] if n_strata == 1 else [strata == stratum for stratum in range(n_strata)]:
        rounding = 4 * np.finfo(np.float64).eps * max(np.abs(after[rows]).max(), np.abs(before[rows]).max())
        if 0 < np.ptp(values[rows]) <= rounding:
            values[rows] = 0.0 if np.abs(values[rows]).max() <= rounding else values[rows].min()
    return values


def change(found: Items) -> Change:
    """The mean of `found` (made by `differences`), with its errors."""
    known = terms(found)
    every = parts(found, known)
    p, df = _significance(found, every)
    return Change(
        change=found.mean,
        stderr=None if known.variance is None else math.sqrt(known.variance),
        df=df,
        interval=interval(found, every),
        p=p,
        n_paired=len(found.values),
        n_clusters=found.layout.n_clusters,
        n_answers=_n_answers(found) if all(part.proportion for part in every) else None,
    )


def _n_answers(found: Items) -> float:
    where = found.layout
    return 1 / math.fsum((where.weights * where.weights / where.n_items).tolist())


def _significance(found: Items, every: Sequence[Part]) -> tuple[float | None, float | None]:
    """(p, df) of no change."""
    where = found.layout
    alone = where.n_clusters == len(where.ids)
    whole = bool(found.unit_interval.all()) and bool(np.isin(found.values, (-1.0, 0.0, 1.0)).all())
    if len(every) == 1 and alone and whole:
        return mcnemar(int((found.values > 0).sum()), int((found.values < 0).sum())), None
    variances = []
    for part, weight in zip(every, where.weights.tolist(), strict=True):
        if part.variance is None:
            return None, None
        variances.append(weight * weight * part.variance)
    total = math.fsum(variances)
    if total == 0:
        return None, None
    if len(every) == 1:
        (part,) = every
        t = found.mean / math.sqrt(total)
        df = float(part.n_clusters - 1) if part.proportion else part.df
        return t_tail(t if part.proportion else cubed(t, part.skew), df), df
    df = total**2 / math.fsum(v * v / part.df for v, part in zip(variances, every, strict=True))
    return t_tail(found.mean / math.sqrt(total), df), df


def mcnemar(up: int, down: int) -> float:
    """The exact two-sided p of no change from `up` items that became right and `down` that became wrong."""
    from scipy.special import bdtr

    n = up + down
    return min(1.0, 2 * float(bdtr(min(up, down), n, 0.5))) if n else 1.0


def sum_stderr(weighted: Sequence[tuple[float, Items]]) -> float | None:
    """Standard error of sum_i weight_i * items_i.mean; None where one of them has none.

    Clusters of the same scope and name are one draw, so components that share items covary as their items do.
    """
    return _combined([(weight, [(1.0, found)]) for weight, found in weighted])


def gain_stderr(weighted: Sequence[tuple[float, Items, Items]]) -> float | None:
    """Standard error of sum_i weight_i * (after_i.mean - before_i.mean), each as (weight, before, after).

    Where both scored the same items this is the error of the weighted paired changes; an item that only one of them
    scored enters alone, as it does in the gain.
    """
    made = []
    for weight, before, after in weighted:
        if before.layout.same(after.layout):
            found = differences(before, after)
            assert not isinstance(found, NoItems)
            made.append((weight, [(1.0, found)]))
        else:
            made.append((weight, [(1.0, after), (-1.0, before)]))
    return _combined(made)


def _combined(weighted: Sequence[tuple[float, Sequence[tuple[float, Items]]]]) -> float | None:
    by_scope: dict[str, list[tuple[Layout, Floats]]] = {}
    floors = []
    for weight, signed in weighted:
        for sign, found in signed:
            known = terms(found)
            if known.unknown:
                return None
            floors.append(weight * weight * math.fsum(known.floors.tolist()))
            by_scope.setdefault(found.layout.scope, []).append((found.layout, sign * weight * known.values))
    squares = [square for of in by_scope.values() for square in _squares(of)]
    return math.sqrt(math.fsum(squares) + math.fsum(floors))


def _squares(of: Sequence[tuple[Layout, Floats]]) -> list[float]:
    """Of every cluster's total over components of one scope."""
    first = of[0][0]
    if len(first.weights) == 1 and all(where is first or where.unit_keys == first.unit_keys for where, _ in of[1:]):
        total = sum((values for _, values in of[1:]), of[0][1])
        squares: list[float] = (total * total).tolist()
        return squares
    totals: dict[Hashable, float] = {}
    for where, values in of:
        for key, value in zip(where.unit_keys, values.tolist(), strict=True):
            totals[key] = totals.get(key, 0.0) + value
    return [value * value for value in totals.values()]
