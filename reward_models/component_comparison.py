"""One component of two checkpoints compared: change, errors, flips, and what became of it. Pure arithmetic.

What cannot be compared keeps its reason, and is never a change of 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.core.measurement import Interval
from harness.core.vector import Role
from harness.reward_models.flips import Flips, flips
from harness.reward_models.interval import Z, stderr, t_quantile, t_tail
from harness.reward_models.items import Items, NoItems
from harness.reward_models.paired import Change, change, differences
from harness.reward_models.power import detectable, detectable_answers
from harness.reward_models.seeds import SeedSpread, mean_items, seed_error, seed_spread
from harness.reward_models.side import Coordinate, Side, limits
from harness.reward_models.statistics import believable
from harness.reward_models.unlike import unlike

ALPHA = 0.05
Comparability = Literal["paired", "unpaired", "refused", "failed", "only before", "only after"]
Word = Literal["learned", "gained", "forgotten", "lost", "within error", "no error", "not compared"]
WORDS: tuple[Word, ...] = ("learned", "gained", "forgotten", "lost", "within error", "no error", "not compared")
"""In the order in which they are said."""
BY_ITEMS: tuple[Comparability, ...] = ("paired", "unpaired")
"""Statuses with a change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SideValue:
    """What one side has of a component: the mean over its seeds. `raw` None: failed, with the reason."""

    raw: float | None
    stderr: float | None
    n_items: int
    n_scored: int
    status: str
    reason: str | None
    seeds: SeedSpread


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentComparison:
    """One component, after minus before in the unit of its values (`improvement`: negated where lower is better).

    `stderr`, `df`, `interval` (95%) and `p` are over items: paired where both sides' items are at hand, else (`status`
    "unpaired") as of two samples, which is too wide. `unpaired_stderr` is there for both. `p_holm`: over the components of
    this comparison. `detectable`: the smallest change found in 80% of such comparisons. `seed_stderr`: of the change, from
    the spread between seeds. None: not known; `reason` says why.
    """

    name: str
    kind: str
    role: Role | None
    metric: str
    higher_is_better: bool
    weight: float | None
    status: Comparability
    reason: str | None = None
    before: SideValue | None
    after: SideValue | None
    change: float | None = None
    stderr: float | None = None
    df: float | None = None
    interval: Interval | None = None
    p: float | None = None
    p_holm: float | None = None
    detectable: float | None = None
    n_paired: int | None = None
    n_clusters: int | None = None
    unpaired_stderr: float | None = None
    seed_stderr: float | None = None
    flips: Flips | None = None

    @property
    def improvement(self) -> float | None:
        """The change, negated where lower is better."""
        return self.change if self.change is None or self.higher_is_better else -self.change

    @property
    def improvement_interval(self) -> Interval | None:
        """The interval of the improvement."""
        if self.interval is None or self.higher_is_better:
            return self.interval
        return Interval(-self.interval.high, -self.interval.low)

    @property
    def n_unscored(self) -> int:
        """Items of the side that lacks more of them."""
        return max((side.n_items - side.n_scored for side in (self.before, self.after) if side is not None), default=0)

    @property
    def word(self) -> Word:
        """What became of it: beyond its error where Holm's p is at most ALPHA."""
        if self.improvement is None:
            return "not compared"
        if self.p_holm is None:
            return "no error"
        return verdict(self.role, better=self.improvement > 0, beyond=self.p_holm <= ALPHA)


def verdict(role: Role | None, *, better: bool, beyond: bool) -> Word:
    """A target component is learned or lost, a source component gained or forgotten; one without a role counts as a target."""
    if not beyond:
        return "within error"
    if role == "source":
        return "gained" if better else "forgotten"
    return "learned" if better else "lost"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Merged:
    """Both sides' items, each the mean over its seeds."""

    before: Items | NoItems
    after: Items | NoItems

    @classmethod
    def of(cls, before: Sequence[Coordinate], after: Sequence[Coordinate]) -> Merged:
        none = NoItems("not measured")
        return cls(
            before=mean_items([one.items for one in before]) if before else none,
            after=mean_items([one.items for one in after]) if after else none,
        )


def compare_component(
    name: str,
    befores: Sequence[Side],
    afters: Sequence[Side],
    before: Sequence[Coordinate],
    after: Sequence[Coordinate],
    merged: Merged,
) -> ComponentComparison:
    """After against before. `before` and `after`: the component's coordinates, of those of `befores` and `afters` that have it."""
    first = (after or before)[0]
    made = ComponentComparison(
        name=name,
        kind=first.kind,
        role=first.role,
        metric=first.measurement.metric,
        higher_is_better=first.measurement.higher_is_better,
        weight=first.weight,
        status="paired",
        before=_measured(before, merged.before),
        after=_measured(after, merged.after),
    )
    if made.before is None or made.after is None:
        which: Comparability = "only after" if made.before is None else "only before"
        return replace(made, status=which, reason=f"{'before' if made.before is None else 'after'} does not have it")
    lacking = [side.label for side in [*befores, *afters] if name not in side.coordinates]
    if lacking:
        return replace(made, status="refused", reason=f"{', '.join(lacking)} of the seeds does not have it")
    why = unlike([(side, side.coordinates[name]) for side in [*befores, *afters]])
    if why is not None:
        return replace(made, status="refused", reason=why)
    if made.before.raw is None or made.after.raw is None:
        failures = [
            f"{side.label}: {measurement.reason}"
            for side in [*befores, *afters]
            if (measurement := side.coordinates[name].measurement).raw is None
        ]
        return replace(made, status="failed", reason="; ".join(failures))
    made = replace(
        made,
        unpaired_stderr=hypot(made.before.stderr, made.after.stderr),
        seed_stderr=seed_error(made.before.seeds, made.after.seeds, same_seeds=same_seeds(befores, afters)),
    )
    found: Items | NoItems | None = None
    if isinstance(merged.before, Items) and isinstance(merged.after, Items):
        found = differences(merged.before, merged.after)
    if isinstance(found, Items):
        turned = flips(
            [one.items for one in before if isinstance(one.items, Items)],
            [one.items for one in after if isinstance(one.items, Items)],
            higher_is_better=made.higher_is_better,
        )
        return _paired(replace(made, flips=turned), change(found))
    lacks = [one.reason for one in (merged.before, merged.after, found) if isinstance(one, NoItems)]
    return _unpaired(replace(made, reason=lacks[0]), before, after)


def _measured(coordinates: Sequence[Coordinate], merged: Items | NoItems) -> SideValue | None:
    """Over the seeds; a failure of one of them is a failure of the mean."""
    if not coordinates:
        return None
    every = [one.measurement for one in coordinates]
    raws = [one.raw for one in every if one.raw is not None]
    failed = len(raws) < len(every)
    statuses = {one.status for one in every}
    return SideValue(
        raw=None if failed else math.fsum(raws) / len(raws),
        stderr=None if failed else _error(coordinates, merged),
        n_items=max(one.n_items for one in every),
        n_scored=min(one.n_scored for one in every),
        status="failed" if failed else "ok" if statuses == {"ok"} else "partial",
        reason="; ".join(dict.fromkeys(one.reason for one in every if one.reason)) or None,
        seeds=seed_spread(raws),
    )


def _error(coordinates: Sequence[Coordinate], merged: Items | NoItems) -> float | None:
    """Over items; where they are not at hand the seeds' mean error, since seeds share their items."""
    if isinstance(merged, Items):
        return stderr(merged)
    errors = [believable(m.raw, m.stderr, m.n_scored) for m in (one.measurement for one in coordinates)]
    known = [error for error in errors if error is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(errors) else None


def hypot(first: float | None, second: float | None) -> float | None:
    """Of two errors; None where one is not known."""
    return None if first is None or second is None else math.hypot(first, second)


def _paired(made: ComponentComparison, found: Change) -> ComponentComparison:
    interval, p = found.interval, found.p
    same = found.stderr == 0 and found.change == 0
    if same:  # every item has the value it had: the same weights
        interval, p = Interval(0.0, 0.0), 1.0
    return replace(
        made,
        change=found.change,
        stderr=found.stderr,
        df=found.df,
        interval=interval,
        p=p,
        detectable=_detectable(found),
        n_paired=found.n_paired,
        n_clusters=found.n_clusters,
        reason="too few clusters, or differences that are all equal" if found.stderr is None else None,
    )


def _detectable(found: Change) -> float | None:
    if found.stderr is None:
        return None
    if found.n_answers is None:
        return detectable(found.stderr, found.df)
    return detectable_answers(found.stderr, found.df, n_answers=found.n_answers, n_clusters=found.n_clusters)


def _unpaired(
    made: ComponentComparison, before: Sequence[Coordinate], after: Sequence[Coordinate]
) -> ComponentComparison:
    """As of two samples of items; both sides' own intervals put together by their distances (MOVER)."""
    assert made.before is not None and made.after is not None
    assert made.before.raw is not None and made.after.raw is not None
    error, moved = made.unpaired_stderr, made.after.raw - made.before.raw
    df = _freedom(made, before, after)
    interval = None
    if len(before) == len(after) == 1:
        b = limits(before[0].measurement, made.before.stderr, z=Z)
        a = limits(after[0].measurement, made.after.stderr, z=Z)
        if a is not None and b is not None:
            below = math.hypot(made.after.raw - a.low, b.high - made.before.raw)
            above = math.hypot(a.high - made.after.raw, made.before.raw - b.low)
            interval = Interval(moved - below, moved + above)
    elif error is not None:
        half = (Z if df is None else t_quantile(df)) * error
        interval = Interval(moved - half, moved + half)
    return replace(
        made,
        status="unpaired",
        change=moved,
        stderr=error,
        df=df,
        interval=interval,
        p=None if error is None else p_of(moved, error, df),
        detectable=None if error is None else detectable(error, df),
    )


def _freedom(made: ComponentComparison, before: Sequence[Coordinate], after: Sequence[Coordinate]) -> float | None:
    """Welch's degrees of freedom, of the clusters that both sides say they have; None (normal) where one does not."""
    terms = []
    for side, coordinates in ((made.before, before), (made.after, after)):
        clusters = [one.measurement.n_clusters for one in coordinates if one.measurement.n_clusters is not None]
        if side is None or side.stderr is None or len(clusters) < len(coordinates) or min(clusters) < 2:
            return None
        terms.append((side.stderr**2, min(clusters) - 1))
    below = math.fsum(variance * variance / df for variance, df in terms)
    return math.fsum(variance for variance, _ in terms) ** 2 / below if below > 0 else None


def p_of(moved: float, error: float, df: float | None) -> float | None:
    """Two-sided, of no change; None for an error of 0 with a change that is not 0."""
    if error == 0:
        return 1.0 if moved == 0 else None
    return t_tail(moved / error, math.inf if df is None else df)


def same_seeds(before: Sequence[Side], after: Sequence[Side]) -> bool:
    """Whether both sides are of the same trajectories, in one order."""
    return [side.trajectory for side in before] == [side.trajectory for side in after]
