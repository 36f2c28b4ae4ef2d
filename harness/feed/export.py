"""A feed as files that other tools read: CSV, Parquet, and olmix's ratios.csv and metrics.csv."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import DataError
from harness.core.journal import write_atomically
from harness.feed.feed import Feed
from harness.reward_models.reference import label

if TYPE_CHECKING:
    import pandas as pd


def write_csv(feed: Feed, path: Path) -> Path:
    """One row per vector (`Feed.to_pandas`), numbers in full precision."""
    write_atomically(path, _frame(feed).to_csv(index=False).encode())
    return path


def write_parquet(feed: Feed, path: Path) -> Path:
    """One row per vector (`Feed.to_pandas`)."""
    buffer = io.BytesIO()
    _frame(feed).to_parquet(buffer, index=False)
    write_atomically(path, buffer.getvalue())
    return path


def _frame(feed: Feed) -> pd.DataFrame:
    _refuse_empty(feed)
    return feed.to_pandas()


def _refuse_empty(feed: Feed) -> None:
    if not feed:
        raise DataError("the feed is empty; there is nothing to export")


def write_olmix(feed: Feed, folder: Path) -> list[Path]:
    """`ratios.csv` (a column per domain, rows sum to 1) and `metrics.csv` (`<component>_bpb`, lower is better).

    Joined on `run_id`, the column that every version of olmix's CSV loader reads. A step measured again counts once. A
    failed component is an empty cell, whose row olmix drops with a warning. Raises DataError where a vector has no
    mixture, or the feed no component in bits per byte.
    """
    import pandas as pd

    _refuse_empty(feed)
    domains = feed.domains
    ratios, metrics = [], []
    for vector in feed.latest():
        if vector.mixture is None:
            raise DataError(
                f"{label(vector)} carries no mixture, which olmix fits on; put a mixture.json beside its weights, or pass "
                "mixture= to feedback()"
            )
        step = "" if vector.step is None else f"-step{vector.step}"
        row: dict[str, Any] = {"run_id": f"{vector.trajectory}{step}"}
        rho = vector.mixture.normalized()
        ratios.append(row | {domain: rho.get(domain, 0.0) for domain in domains})
        bits: dict[str, Any] = {
            f"{c.name}_bpb": c.detail["bits_per_byte"] for c in vector.components if "bits_per_byte" in c.detail
        }
        metrics.append(row | bits)
    if not any(len(row) > 1 for row in metrics):
        raise DataError("no component of the feed is measured in bits per byte, the only metric olmix fits on")
    written = []
    for name, rows in (("ratios.csv", ratios), ("metrics.csv", metrics)):
        path = folder / name
        write_atomically(path, pd.DataFrame(rows).to_csv(index=False).encode())
        written.append(path)
    return written
