"""A feed as one table that other tools read: CSV and Parquet."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.core.errors import DataError
from harness.core.journal import write_atomically
from harness.feed.feed import Feed
from harness.feed.runs import NoShares, run_name, runs_of, shares_up_to

if TYPE_CHECKING:
    import pandas as pd

Rows = Literal["last", "steps"]
"""A row for the last step of each run, or one for each step."""


def write_csv(feed: Feed, path: Path, *, rows: Rows = "steps") -> Path:
    """`table` with numbers in full precision."""
    write_atomically(path, table(feed, rows=rows).to_csv(index=False).encode())
    return path


def write_parquet(feed: Feed, path: Path, *, rows: Rows = "steps") -> Path:
    """`table`."""
    buffer = io.BytesIO()
    table(feed, rows=rows).to_parquet(buffer, index=False)
    write_atomically(path, buffer.getvalue())
    return path


def table(feed: Feed, *, rows: Rows = "steps") -> pd.DataFrame:
    """`Feed.to_pandas(errors=True)`, and `cumulative.<domain>`: the mixture that the run was trained on up to the step.

    "last": of each trajectory the last step alone, measured last. Raises DataError where two columns would have one name,
    and with "last" where what a run was trained on is not known; with "steps" such a cell is empty.
    """
    refuse_empty(feed)
    domains = feed.domains
    if rows == "last":
        latest = feed.latest()
        feed = Feed([latest.trajectory(name)[-1] for name in latest.trajectories])
        known = {(run.name, run.last.step): shares_up_to(run)[-1] for run in runs_of(latest)}
    else:
        known = {
            (run.name, step.step): shares
            for run in runs_of(feed)
            for step, shares in zip(run.steps, shares_up_to(run), strict=True)
        }
    frame = feed.to_pandas(errors=True)
    for domain in domains:
        column = f"cumulative.{domain}"
        if column in frame:
            raise DataError(f"a table cannot have two columns {column!r}; rename the component in the spec")
        cells: list[float] = []
        for vector in feed:
            shares = known[run_name(vector), vector.step]
            if not isinstance(shares, NoShares):
                cells.append(shares.get(domain, 0.0))
            elif rows == "last" and shares.started:
                raise DataError(f"{shares.reason}; or export a row per step: --rows steps")
            else:
                cells.append(math.nan)
        frame[column] = cells
    return frame


def refuse_empty(feed: Feed) -> None:
    """Raises DataError for a feed without vectors."""
    if not feed:
        raise DataError("the feed is empty; there is nothing to export")
