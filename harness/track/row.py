"""A vector as trackers get it: named numbers at a step, and a table of its components. Pure; knows no tracker.

The names are stable (docs/tracking.md). A value that is None is left out, never 0.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.digest import digest_json
from harness.core.place import Place
from harness.core.secret import hide
from harness.core.vector import ComponentRecord, RewardVector

COLUMNS = (
    *("component", "kind", "role", "metric", "raw", "stderr", "n_items", "n_scored", "status"),
    *("weight", "standardized", "change", "change_stderr", "loss", "alarm", "reason"),
)
_SECRET = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|PASSWD)$", re.IGNORECASE)
_LONGEST = 500
"""Characters of a reason at most."""

Cell = str | float | int | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRow:
    """A vector as trackers write it.

    `digest` identifies the content: equal digests at a step are the same row. `table`: shape [n_components, len(COLUMNS)].
    """

    place: Place
    metrics: Mapping[str, float]
    table: tuple[tuple[Cell, ...], ...]
    digest: str
    variables: Mapping[str, str]
    """What the spec's `vary` filled the prompts with, by name."""

    @property
    def step(self) -> int:
        """The x axis; 0 for a checkpoint without a step."""
        return self.place.step or 0

    @property
    def mark(self) -> tuple[int, str]:
        """Identifies the row within a trajectory, for comparison with what a tracker has."""
        return self.step, self.digest


def row_of(vector: RewardVector) -> TrackedRow:
    """The row of a vector."""
    metrics: dict[str, float] = {}

    def put(name: str, value: float | None) -> None:
        if value is not None and math.isfinite(value):
            metrics[name] = float(value)

    put("scalar", vector.scalar)
    put("scalar_error", vector.scalar_stderr)
    put("gain/scalar", vector.gain)
    put("gain/error", vector.gain_stderr)
    put("gain/standardized", vector.gain_standardized)
    put("failed", sum(component.status == "failed" for component in vector.components))
    put("tokens_seen", vector.checkpoint.tokens_seen)
    for domain, share in (vector.mixture.normalized() if vector.mixture else {}).items():
        put(f"mixture/{domain}", share)
    for component in vector.components:
        put(f"reward/{component.name}", component.raw)
        put(f"error/{component.name}", component.stderr)
        put(f"standardized/{component.name}", component.standardized)
        put(f"change/{component.name}", component.change)
        put(f"change_error/{component.name}", component.change_stderr)
        put(f"loss/{component.name}", component.loss)
        put(f"alarm/{component.name}", component.alarm)
    table = tuple(_cells(component) for component in vector.components)
    digest = digest_json([vector.step, metrics, [list(row) for row in table]]).removeprefix("sha256:")[:12]
    variables = {name: str(value) for name, value in vector.variables.items()}
    return TrackedRow(place=vector.place, metrics=metrics, table=table, digest=digest, variables=variables)


def _cells(component: ComponentRecord) -> tuple[Cell, ...]:
    shown: dict[str, Any] = {"component": component.name, **component.model_dump(include=set(COLUMNS))}
    if component.reason is not None:
        shown["reason"] = hide(component.reason, secrets())[:_LONGEST]
    return tuple(shown[name] for name in COLUMNS)


def secrets() -> list[str]:
    """Values of environment variables with names of secrets; they are masked in everything that a tracker gets."""
    return [value for name, value in os.environ.items() if _SECRET.search(name)]


def markdown(table: tuple[tuple[Cell, ...], ...]) -> str:
    """The table for trackers that have only text."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(tuple(map(_shown, row)) for row in table)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _shown(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.6g}"
    return " ".join(str(cell).replace("|", "\\|").split())
