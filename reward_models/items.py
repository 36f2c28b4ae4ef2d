"""What a measurement averages over, as numbers: values, clusters, and the members of a group or suite. Pure, no files.

An item is a pair, a question or a simulation. Items are the same for every checkpoint, so two measurements of one
component are compared item by item (`paired.py`), and what an item does to all checkpoints alike cancels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from harness.core.measurement import Measurement

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

VALUES = ("value", "reward", "logprob_per_token")
"""Columns that hold an item's value; a table has one of them."""
CLUSTERS = ("cluster", "task_id")
"""Columns that say which items belong together; without one every item stands alone."""
MEMBER = "task"
"""The column that says which task of a group or suite an item is of; its ids are those of the task, in a group or alone."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Layout:
    """Which items there are, which belong together, and what each counts. Made by `layout`; shared between checkpoints.

    A stratum is a member of a group or suite (a field or a domain is one stratum); the measurement is
    sum_s weight_s * mean_s. A unit is a cluster within a stratum.
    """

    ids: tuple[str, ...]
    clusters: tuple[Hashable, ...]
    strata: Ints
    """Stratum of each item, shape [n_items]."""
    weights: Floats
    """Of each stratum, shape [n_strata]; they sum to 1."""
    units: Ints
    """Unit of each item, shape [n_items]."""
    unit_strata: Ints
    """Stratum of each unit, shape [n_units]."""
    unit_keys: tuple[Hashable, ...]
    """(scope, cluster) of each unit: equal keys in two components are the same cluster, so their values covary."""
    unit_names: tuple[Hashable, ...]
    """(stratum, cluster) of each unit: what it is called in every checkpoint of a component."""
    n_items: Ints
    """Of each stratum, shape [n_strata]."""
    n_units: Ints
    """Of each stratum, shape [n_strata]."""
    alike: Floats
    """Items that a unit of each stratum holds, weighted by items: 1 where every item stands alone. Shape [n_strata]."""
    scope: str = ""
    """What the cluster labels are labels of, such as `domain retail`: components of one scope share items."""

    @property
    def n_clusters(self) -> int:
        """Clusters over all strata."""
        return len(self.unit_keys)

    def same(self, other: Layout) -> bool:
        """Whether both order the same items in the same way."""
        return self is other or (
            self.ids == other.ids
            and self.clusters == other.clusters
            and np.array_equal(self.strata, other.strata)
            and np.array_equal(self.weights, other.weights)
        )


def layout(
    ids: Sequence[str],
    clusters: Sequence[Hashable],
    *,
    strata: Sequence[int] | None = None,
    weights: Sequence[float] = (1.0,),
    scope: str = "",
) -> Layout:
    """Of items in one stratum, or in several with a weight each. `scope`: `Layout.scope`, for `unit_keys`.

    Raises ValueError for ids that are not distinct, unequal lengths, or a stratum without a weight or an item.
    """
    if not ids or len(set(ids)) < len(ids):
        raise ValueError("items need ids, each its own")
    if len(clusters) != len(ids):
        raise ValueError(f"{len(ids)} items but {len(clusters)} cluster labels")
    of = np.zeros(len(ids), dtype=np.int64) if strata is None else np.asarray(strata, dtype=np.int64)
    known: dict[tuple[int, Hashable], int] = {}
    units = np.array(
        [known.setdefault(key, len(known)) for key in zip(of.tolist(), clusters, strict=True)], dtype=np.int64
    )
    unit_strata = np.array([stratum for stratum, _ in known], dtype=np.int64)
    n_items = np.bincount(of, minlength=len(weights))
    if len(n_items) != len(weights) or (n_items == 0).any():
        raise ValueError("every stratum needs a weight and an item")
    sizes = np.bincount(units).astype(np.float64)
    return Layout(
        ids=tuple(ids),
        clusters=tuple(clusters),
        strata=of,
        weights=np.asarray(weights, dtype=np.float64),
        units=units,
        unit_strata=unit_strata,
        unit_keys=tuple((scope, cluster) for _, cluster in known),
        unit_names=tuple(known),
        n_items=n_items,
        n_units=np.bincount(unit_strata, minlength=len(weights)),
        alike=np.bincount(unit_strata, sizes * sizes) / n_items,
        scope=scope,
    )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True, weakref_slot=True)
class Items:
    """One measurement's values by item, finite, shape [n_items]; what was not scored is not among them.

    `unit_interval`: per stratum, whether the values are within [0, 1], as 0/1 answers and rewards are. For differences
    (`paired.differences`): whether those of both sides were.
    """

    layout: Layout
    values: Floats
    unit_interval: npt.NDArray[np.bool_]
    are_differences: bool = False

    @property
    def mean(self) -> float:
        """sum_s weight_s * mean_s, correctly rounded sums: the order of items does not matter."""
        return math.fsum((self.layout.weights * self.means).tolist())

    @property
    def means(self) -> Floats:
        """Of each stratum, shape [n_strata]."""
        if len(self.layout.weights) == 1:
            return np.array([math.fsum(self.values.tolist()) / len(self.values)])
        sums = [math.fsum(self.values[rows].tolist()) for rows in self.members()]
        return np.array(sums) / self.layout.n_items

    def members(self) -> Iterator[npt.NDArray[np.bool_] | slice]:
        """Of each stratum, its rows."""
        n_strata = len(self.layout.weights)
        yield from [slice(None)] if n_strata == 1 else (self.layout.strata == s for s in range(n_strata))


def items(where: Layout, values: Sequence[float] | Floats) -> Items:
    """Values in the order of a layout. Raises ValueError for one that is not finite."""
    x = np.asarray(values, dtype=np.float64)
    if x.shape != (len(where.ids),) or not np.isfinite(x).all():
        raise ValueError("items need a finite value each")
    inside = (x >= 0) & (x <= 1)
    if len(where.weights) == 1:
        within = np.array([inside.all()])
    else:
        within = np.bincount(where.strata, inside, minlength=len(where.weights)) == where.n_items
    return Items(layout=where, values=x, unit_interval=within)


class NoItems(NamedTuple):
    """Why there are no items to compute with, in words."""

    reason: str


def scored_items(
    columns: Mapping[str, Sequence[Any]], measurement: Measurement, task: Mapping[str, JsonValue] | None = None
) -> Items | NoItems:
    """The scored items of a measurement from its table of items; or why they do not explain its value.

    `columns` as a component gives them (`Outcome.items`): `id`, a column of VALUES (None where an item was not scored),
    and where it applies a column of CLUSTERS and MEMBER. `task`: the component's provenance. How a group weighs its
    members, and a suite its benchmarks, is taken from `measurement.detail`, and checked: the weighted mean over the items
    must be the measurement's value.
    """
    if measurement.raw is None:
        return NoItems("it has no value")
    name = next((name for name in VALUES if name in columns), None)
    if name is None or "id" not in columns:
        return NoItems("its items have no values")
    scored = [
        row for row, value in enumerate(columns[name]) if value is not None and math.isfinite(value)
    ]  # some readers of Parquet make a NaN of None
    if not scored:
        return NoItems("none of its items has a value")
    ids = [str(columns["id"][row]) for row in scored]
    if len(set(ids)) < len(ids):
        return NoItems("two of its items have one id")
    values = [float(columns[name][row]) for row in scored]
    by = next((by for by in CLUSTERS if by in columns), None)
    clusters: Sequence[Hashable] = ids if by is None else [columns[by][row] for row in scored]
    scope = _scope(columns, task or {})
    if MEMBER not in columns:
        found = items(layout(ids, clusters, scope=scope), values)
        return found if _explains(found, measurement.raw) else _UNEXPLAINED
    members = [str(columns[MEMBER][row]) for row in scored]
    for weights in _weightings(members, measurement.detail):
        order = {member: position for position, member in enumerate(weights)}
        if set(order) != set(members):
            continue
        strata = [order[member] for member in members]
        found = items(layout(ids, clusters, strata=strata, weights=list(weights.values()), scope=scope), values)
        if _explains(found, measurement.raw):
            return found
    return _UNEXPLAINED


_UNEXPLAINED = NoItems("its value is no mean of its items' values")


def _explains(found: Items, raw: float) -> bool:
    return math.isclose(found.mean, raw, rel_tol=1e-9, abs_tol=1e-12)


def _scope(columns: Mapping[str, Sequence[Any]], task: Mapping[str, JsonValue]) -> str:
    """What the ids are ids of: components of one scope share items. Questions of lm-eval carry their task in the id."""
    if MEMBER in columns:
        return MEMBER
    if "domain" in task:
        return f"domain {task['domain']}"
    return json.dumps({key: task[key] for key in sorted(task) if key not in ("content", "definition")}, default=str)


def _weightings(members: Sequence[str], detail: Mapping[str, Any]) -> Iterator[dict[str, float]]:
    """Ways in which a value may weigh its member tasks: a suite's benchmarks alike; a group's tasks by size, or alike.

    A group of groups with other weights matches none of them.
    """
    n_of: dict[str, int] = {}
    for member in members:
        n_of[member] = n_of.get(member, 0) + 1
    breakdown = detail.get("breakdown")
    rows: list[Any] = list(breakdown.values()) if isinstance(breakdown, Mapping) and "suite" in detail else [detail]
    groups = [list(row["tasks"]) if row.get("tasks") else [row.get("task")] for row in rows]
    if len(groups) == 1 and set(groups[0]) != set(n_of):
        groups = [list(n_of)]
    ways: list[dict[str, float]] = [{}]
    for group, row in zip(groups, rows, strict=True):
        if not all(member in n_of for member in group):
            return
        n = sum(n_of[member] for member in group)
        by_size = {member: n_of[member] / n / len(groups) for member in group}
        alike = {member: 1 / len(group) / len(groups) for member in group}
        value = row.get("value")
        choices = [by_size] if len(group) == 1 else [by_size, alike]
        if len(choices) > 1 and len(groups) > 1:
            choices = _fitting(choices, row, scale=len(groups), value=value)
        ways = [{**way, **choice} for way in ways for choice in choices]
    yield from ways


def _fitting(
    choices: list[dict[str, float]], row: Mapping[str, Any], *, scale: int, value: float | None
) -> list[dict[str, float]]:
    """Of the ways to weigh a benchmark's tasks, the one that gives the benchmark's own value."""
    means = {member: one["value"] for member, one in row["tasks"].items()}
    if value is None or None in means.values():
        return choices[:1]
    totals = [scale * math.fsum(weight * means[member] for member, weight in choice.items()) for choice in choices]
    fits = [c for c, total in zip(choices, totals, strict=True) if math.isclose(total, value, rel_tol=1e-9)]
    return fits[:1] or choices[:1]
