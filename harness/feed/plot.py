"""Reward against step, a line per trajectory: one panel per component and one for the scalar.

A feed whose spec varies its prompts has a row of panels more for each variable of several values: reward against the value, a line per
training at its last step.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import DataError, SpecError
from harness.core.journal import write_atomically
from harness.core.place import suffix
from harness.core.vector import RewardVector
from harness.feed.feed import Feed
from harness.feed.runs import run_name
from harness.reward_models.statistics import believable

FORMATS = (".svg", ".png", ".pdf")
UNITS = {"logprob_per_token": "nats per token"}
TICK_AT_MOST = 16
"""Characters of a value that is no number, below the axis."""
LEGEND_AT_MOST = 12
"""Lines; a longer legend would cover the plot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of every panel of a row: where on x each of its vectors stands."""

    name: str
    vectors: tuple[RewardVector, ...]
    x: tuple[float, ...]


def plot_feed(feed: Feed, path: Path) -> None:
    """Draw `feed` into `path`; bands and bars are plus and minus one standard error, none where it is not known.

    Raises SpecError for another format, DataError for an empty feed.
    """
    if path.suffix not in FORMATS:
        raise SpecError(f"cannot plot into {path}: use {', '.join(FORMATS)}")
    if not feed:
        raise DataError("the feed is empty; there is nothing to plot")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(component.name for vector in feed for component in vector.components))
    metrics = {component.name: component.metric for vector in reversed(feed.vectors) for component in vector.components}
    variables = _variables(feed)
    steps_vary = not variables or any(len(feed.trajectory(one)) > 1 for one in feed.trajectories)
    rows: list[tuple[str, list[Line], list[Any] | None]] = [("step", _by_step(feed), None)] if steps_vary else []
    rows += [
        (name, _by_value(feed, name, values), None if _numeric(values) else values)
        for name, values in variables.items()
    ]
    width = len(names) + 1
    figure = Figure(figsize=(3.6 * width, 3.2 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), width, squeeze=False)
    for axes, (label, lines, ticks) in zip(grid, rows, strict=True):
        for line in lines:
            for axis, name in zip(axes, names, strict=False):
                _draw(axis, _measured(line, name), bars=label != "step" or len(line.x) == 1)
            scalars = [(x, v.scalar) for x, v in zip(line.x, line.vectors, strict=True) if v.scalar is not None]
            shown = _written(line.name)
            axes[-1].plot([x for x, _ in scalars], [y for _, y in scalars], marker="o", markersize=3, label=shown)
        for axis, name in zip(axes, [*names, "scalar (Eq. 6)"], strict=True):
            axis.set_title(name)
            axis.set_xlabel(label)
            axis.grid(alpha=0.3)
            if ticks is not None:
                axis.set_xticks(range(len(ticks)), [_written(str(value)[:TICK_AT_MOST]) for value in ticks])
        for axis, name in zip(axes, names, strict=False):
            axis.set_ylabel(UNITS.get(metrics[name], metrics[name]))
        if len(lines) <= LEGEND_AT_MOST:
            axes[-1].legend(fontsize="small")
    buffer = io.BytesIO()
    # One feed always gives the same file. A character that the font lacks is drawn as a box, without a warning.
    with rc_context({"svg.hashsalt": "harness"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(buffer, format=path.suffix[1:], dpi=120, metadata=metadata)
    write_atomically(path, buffer.getvalue())


def _written(text: str) -> str:
    """A text as matplotlib shows it verbatim: `$` escaped, so that it is no formula, and control characters as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text).replace("$", r"\$")


def _measured(line: Line, name: str) -> list[tuple[float, float, float | None]]:
    """x, raw value and its error, of the vectors that have one."""
    return [
        (x, component.raw, believable(component.raw, component.stderr, component.n_scored))
        for x, vector in zip(line.x, line.vectors, strict=True)
        for component in vector.components
        if component.name == name and component.raw is not None
    ]


def _draw(axis: Any, measured: Sequence[tuple[float, float, float | None]], *, bars: bool) -> None:
    """A line with its errors: bars where points stand alone, else a band."""
    x, y = [x for x, _, _ in measured], [raw for _, raw, _ in measured]
    errors = [math.nan if error is None else error for _, _, error in measured]
    if bars:
        axis.errorbar(x, y, yerr=errors, marker="o", markersize=3, capsize=2)
        return
    axis.plot(x, y, marker="o", markersize=3)
    low, high = ([raw + sign * error for raw, error in zip(y, errors, strict=True)] for sign in (-1, 1))
    axis.fill_between(x, low, high, alpha=0.15)


def _by_step(feed: Feed) -> list[Line]:
    """A line per trajectory; where steps are not known, the position."""
    lines = []
    for trajectory in feed.trajectories:
        vectors = tuple(feed.trajectory(trajectory))
        x = tuple(float(position if v.step is None else v.step) for position, v in enumerate(vectors))
        lines.append(Line(name=trajectory, vectors=vectors, x=x))
    return lines


def _variables(feed: Feed) -> dict[str, list[Any]]:
    """What the spec varies, with its values in order of first appearance; those of one value are left out."""
    found: dict[str, dict[str, Any]] = {}
    for vector in feed:
        for name, value in vector.variables.items():
            found.setdefault(name, {}).setdefault(str(value), value)
    return {name: list(values.values()) for name, values in found.items() if len(values) > 1}


def _numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _by_value(feed: Feed, name: str, values: Sequence[Any]) -> list[Line]:
    """A line per training and values of the other variables, at its last step; a value that is no number stands at its position."""
    lines: dict[str, dict[str, RewardVector]] = {}
    for vector in feed:
        if name not in vector.variables:
            continue
        others = {key: value for key, value in vector.variables.items() if key != name}
        line = lines.setdefault(run_name(vector) + suffix(others), {})
        at = line.get(str(vector.variables[name]))
        if at is None or vector.place.order >= at.place.order:
            line[str(vector.variables[name])] = vector
    positions = {str(value): float(value) if _numeric(values) else float(at) for at, value in enumerate(values)}
    made = []
    for label, by_value in lines.items():
        ordered = sorted(by_value.items(), key=lambda pair: positions[pair[0]])
        steps = sorted({vector.place.order for vector in by_value.values()})
        at_step = "" if steps == [-1] else f", step {'/'.join(map(str, steps))}"
        vectors = tuple(vector for _, vector in ordered)
        made.append(Line(name=label + at_step, vectors=vectors, x=tuple(positions[value] for value, _ in ordered)))
    return made
