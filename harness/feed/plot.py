"""Reward against step, a line per trajectory: one panel per component and one for the scalar."""

from __future__ import annotations

import io
import math
from pathlib import Path

from harness.core.errors import DataError, SpecError
from harness.core.journal import write_atomically
from harness.feed.feed import Feed
from harness.reward_models.statistics import believable

FORMATS = (".svg", ".png", ".pdf")
UNITS = {"logprob_per_token": "nats per token"}
LEGEND_AT_MOST = 12
"""Trajectories; a longer legend would cover the plot."""


def plot_feed(feed: Feed, path: Path) -> None:
    """Draw `feed` into `path`; bands are plus and minus one standard error, none where it is not known. Raises SpecError for another format."""
    if path.suffix not in FORMATS:
        raise SpecError(f"cannot plot into {path}: use {', '.join(FORMATS)}")
    if not feed:
        raise DataError("the feed is empty; there is nothing to plot")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    names = feed.components
    figure = Figure(figsize=(3.6 * (len(names) + 1), 3.2), layout="constrained")
    axes = figure.subplots(1, len(names) + 1, squeeze=False)[0]
    for trajectory in feed.trajectories:
        vectors = feed.trajectory(trajectory)
        shown = trajectory.replace("$", r"\$")
        steps = [position if v.step is None else v.step for position, v in enumerate(vectors)]
        for axis, name in zip(axes, names, strict=False):
            measured = [
                (step, c.raw, believable(c.raw, c.stderr, c.n_scored))
                for step, v in zip(steps, vectors, strict=True)
                for c in v.components
                if c.name == name and c.raw is not None
            ]
            x = [step for step, _, _ in measured]
            axis.plot(x, [raw for _, raw, _ in measured], marker="o", markersize=3)
            bands = [math.nan if error is None else error for _, _, error in measured]
            axis.fill_between(
                x,
                [raw - band for (_, raw, _), band in zip(measured, bands, strict=True)],
                [raw + band for (_, raw, _), band in zip(measured, bands, strict=True)],
                alpha=0.15,
            )
        scalars = [(step, v.scalar) for step, v in zip(steps, vectors, strict=True) if v.scalar is not None]
        axes[-1].plot([s for s, _ in scalars], [value for _, value in scalars], marker="o", markersize=3, label=shown)
    for axis, name in zip(axes, [*names, "scalar (Eq. 6)"], strict=True):
        axis.set_title(name)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    metrics = {component.name: component.metric for component in feed[0].components}
    for axis, name in zip(axes, names, strict=False):
        axis.set_ylabel(UNITS.get(metrics[name], metrics[name]))
    if len(feed.trajectories) <= LEGEND_AT_MOST:
        axes[-1].legend(fontsize="small")
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "harness"}):  # so that one feed always gives the same file
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(buffer, format=path.suffix[1:], dpi=120, metadata=metadata)
    write_atomically(path, buffer.getvalue())
