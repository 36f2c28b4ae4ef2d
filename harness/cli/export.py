"""harness export: a feed for other tools."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """What `harness export` writes."""

    CSV = "csv"
    PARQUET = "parquet"
    OLMIX = "olmix"


def export(
    feed: Annotated[Path, typer.Argument(metavar="FEED", help="A rewards.jsonl, or the folder it is in.")],
    form: Annotated[
        Format, typer.Option("--format", "-F", help="csv and parquet: one table; olmix: ratios.csv and metrics.csv.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File (csv, parquet) or folder (olmix). Default: beside the feed."),
    ] = None,
) -> None:
    """Export a feed as CSV, as Parquet, or as the two CSV files olmix fits on."""
    from harness.feed.export import write_csv, write_olmix, write_parquet
    from harness.feed.feed import read_feed

    beside = feed if feed.is_dir() else feed.parent
    vectors = read_feed(feed)
    if form is Format.OLMIX:
        written = write_olmix(vectors, output or beside)
    else:
        name = f"rewards.{form}"
        path = beside / name if output is None else output / name if output.is_dir() else output
        written = [write_csv(vectors, path) if form is Format.CSV else write_parquet(vectors, path)]
    for path in written:
        typer.echo(str(path))
