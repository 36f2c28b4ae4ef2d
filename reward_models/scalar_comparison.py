"""The weighted sum (Eq. 6) of two checkpoints compared, with the error of its difference. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.core.measurement import Interval
from harness.reward_models.component_comparison import BY_ITEMS, ComponentComparison, Merged, hypot, p_of, same_seeds
from harness.reward_models.interval import Z, t_quantile
from harness.reward_models.items import Items
from harness.reward_models.paired import gain_stderr, sum_stderr
from harness.reward_models.power import detectable
from harness.reward_models.seeds import seed_error, seed_spread
from harness.reward_models.side import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalarComparison:
    """The weighted sum (Eq. 6) of both sides, and its difference; None with a reason where there is none.

    `stderr` is paired, components on the same items taken together; `unpaired`: the components that entered unpaired.
    """

    before: float | None = None
    after: float | None = None
    change: float | None = None
    stderr: float | None = None
    df: float | None = None
    interval: Interval | None = None
    p: float | None = None
    detectable: float | None = None
    unpaired_stderr: float | None = None
    seed_stderr: float | None = None
    unpaired: tuple[str, ...] = ()
    reason: str | None = None


def compare_scalars(
    befores: Sequence[Side], afters: Sequence[Side], rows: Sequence[ComponentComparison], merged: Mapping[str, Merged]
) -> ScalarComparison:
    """Eq. 6 on both sides; None with a reason where a component that counts is missing, or counts for another weight."""
    weights = {
        row.name: [side.coordinates[row.name].weight for side in [*befores, *afters] if row.name in side.coordinates]
        for row in rows
    }
    counted = [row for row in rows if any(weight != 0 for weight in weights[row.name])]
    unweighted = [row.name for row in counted if None in weights[row.name]]
    others = [
        f"{row.name} has the weights {' and '.join(f'{w:g}' for w in dict.fromkeys(weights[row.name]) if w is not None)}"
        for row in counted
        if len(set(weights[row.name])) > 1
    ]
    missing = [f"{row.name} ({row.status})" for row in counted if row.status not in BY_ITEMS]
    if not counted or unweighted:
        names = "no component" if len(unweighted) == len(counted) else ", ".join(unweighted)
        return ScalarComparison(reason=f"{names} has a weight" if names == "no component" else f"{names} has no weight")
    if missing or others:
        return ScalarComparison(reason=f"not comparable: {', '.join([*missing, *others])}")
    seeds = [seed_spread([_weighted_sum(counted, side) for side in sides]) for sides in (befores, afters)]
    before, after = (math.fsum(spread.values) / spread.n for spread in seeds)
    error, alone = _scalar_error(counted, merged)
    made = ScalarComparison(
        before=before,
        after=after,
        change=after - before,
        stderr=error,
        unpaired_stderr=hypot(*(_sum_error(counted, merged, which) for which in ("before", "after"))),
        seed_stderr=seed_error(*seeds, same_seeds=same_seeds(befores, afters)),
        unpaired=alone,
        reason=None if error is not None else "a component has no error",
    )
    if error is None:
        return made
    moved, df = after - before, _freedom(counted)
    half = (Z if df is None else t_quantile(df)) * error
    return replace(
        made,
        df=df,
        interval=Interval(moved - half, moved + half),
        p=p_of(moved, error, df),
        detectable=detectable(error, df) * _hidden(counted),
    )


def _hidden(counted: Sequence[ComponentComparison]) -> float:
    """Factor, at least 1, by which `power.detectable_answers` raises the components' detectable changes over those of their errors."""
    rows = [row for row in counted if row.stderr]
    usual = [_signed(row) * detectable(row.stderr or 0.0, row.df) for row in rows]
    needed = [_signed(row) * (row.detectable or 0.0) for row in rows]
    return max(1.0, math.hypot(*needed) / math.hypot(*usual)) if rows else 1.0


def _weighted_sum(counted: Sequence[ComponentComparison], side: Side) -> float:
    raws = [(row, side.coordinates[row.name].measurement.raw) for row in counted]
    return math.fsum(_signed(row) * raw for row, raw in raws if raw is not None)


def _signed(row: ComponentComparison) -> float:
    assert row.weight is not None
    return row.weight if row.higher_is_better else -row.weight


def _scalar_error(
    counted: Sequence[ComponentComparison], merged: Mapping[str, Merged]
) -> tuple[float | None, tuple[str, ...]]:
    """Of the scalar's change, and the components that entered it unpaired."""
    paired, alone = [], []
    for row in counted:
        then, now = merged[row.name].before, merged[row.name].after
        if row.status == "paired" and isinstance(then, Items) and isinstance(now, Items):
            paired.append((_signed(row), then, now))
        else:
            alone.append(row)
    errors = [gain_stderr(paired), *(None if row.stderr is None else _signed(row) * row.stderr for row in alone)]
    known = [error for error in errors if error is not None]
    return (math.hypot(*known) if len(known) == len(errors) else None), tuple(row.name for row in alone)


def _sum_error(counted: Sequence[ComponentComparison], merged: Mapping[str, Merged], which: str) -> float | None:
    """Of one side's scalar over another sample of items."""
    shared, others = [], []
    for row in counted:
        items = getattr(merged[row.name], which)
        side = row.before if which == "before" else row.after
        if isinstance(items, Items):
            shared.append((_signed(row), items))
        elif side is None or side.stderr is None:
            return None
        else:
            others.append(_signed(row) * side.stderr)
    together = sum_stderr(shared)
    return None if together is None else math.hypot(together, *others)


def _freedom(counted: Sequence[ComponentComparison]) -> float | None:
    """Welch and Satterthwaite's, as if components shared no items; None (normal) where nothing moved."""
    terms = []
    for row in counted:
        if row.stderr:
            df = row.df if row.df is not None else row.n_clusters - 1 if row.n_clusters else math.inf
            terms.append(((_signed(row) * row.stderr) ** 2, df))
    total = math.fsum(variance for variance, _ in terms)
    below = math.fsum(variance * variance / df for variance, df in terms)
    return total * total / below if below > 0 else None
