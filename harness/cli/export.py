"""harness export: a feed for other tools."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.visible import visible


class Format(StrEnum):
    """What `harness export` writes."""

    CSV = "csv"
    PARQUET = "parquet"
    OLMIX = "olmix"
    REGMIX = "regmix"
    INSPECT = "inspect"
    HF = "hf"


class RowsOf(StrEnum):
    """What a row is."""

    LAST = "last"
    STEPS = "steps"


def export(
    feed: Annotated[
        Path,
        typer.Argument(metavar="FEED", help="A rewards.jsonl, or the folder it is in; for inspect also simulations."),
    ],
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            "-F",
            help="csv and parquet: one table; olmix: ratios.csv and metrics.csv; regmix: train_mixture.csv and train_target.csv; inspect: logs for `inspect view`, of simulations too; hf: .eval_results and Every Eval Ever records.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File (csv, parquet) or folder (others). Default: beside the feed."),
    ] = None,
    rows: Annotated[
        RowsOf | None,
        typer.Option(
            "--rows",
            help="last: a row per run; steps: one per step. Default: last for olmix, regmix and hf, else steps.",
        ),
    ] = None,
    sizes: Annotated[
        Path | None,
        typer.Option("--sizes", metavar="FILE", help="Tokens of each domain (JSON), for olmix's priors.json."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="ORG/NAME", help="The checkpoint's id on the hub, for hf.")
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset", metavar="COMPONENT=ORG/NAME[:TASK]", help="A benchmark on the hub, for hf. Repeatable."
        ),
    ] = None,
) -> int:
    """Export a feed as CSV, as Parquet, for olmix or RegMix, as Inspect logs, or as results for the hub."""
    from harness.core.errors import SpecError
    from harness.feed.export import write_csv, write_parquet
    from harness.feed.feed import read_feed
    from harness.feed.fit_export import Exported, read_sizes, write_olmix, write_regmix
    from harness.feed.hf_export import FOLDER, parse_datasets, write_hf
    from harness.report.inspect_logs import write_inspect

    if sizes is not None and form is not Format.OLMIX:
        raise SpecError("--sizes is for --format olmix; a multiplier's sizes stand in mixture.json")
    if (model is not None or dataset) and form is not Format.HF:
        raise SpecError("--model and --dataset are for --format hf")
    if form is Format.INSPECT:
        logs = write_inspect(feed, output, last=rows is RowsOf.LAST)
        return _told([*logs.paths], logs.left_out)
    beside = feed if feed.is_dir() else feed.parent
    vectors = read_feed(feed)
    if form is Format.HF:
        results = write_hf(
            vectors,
            output or beside / FOLDER,
            last=rows is not RowsOf.STEPS,
            model=model,
            datasets=parse_datasets(dataset or []),
        )
        for words in results.notes:
            typer.echo(visible(words), err=True)
        return _told(results.paths, results.left_out)
    if form is Format.OLMIX:
        known = None if sizes is None else read_sizes(sizes)
        written = write_olmix(vectors, output or beside, rows=(rows or RowsOf.LAST).value, sizes=known)
    elif form is Format.REGMIX:
        written = write_regmix(vectors, output or beside, rows=(rows or RowsOf.LAST).value)
    else:
        name = f"rewards.{form}"
        path = beside / name if output is None else output / name if output.is_dir() else output
        write = write_csv if form is Format.CSV else write_parquet
        written = Exported([write(vectors, path, rows=(rows or RowsOf.STEPS).value)], [])
    if form is Format.OLMIX and not any(path.name == "priors.json" for path in written.paths):
        typer.echo("olmix also asks for the domains' sizes: --sizes FILE, or `sizes` in mixture.json", err=True)
    return _told(written.paths, written.left_out)


def _told(paths: Sequence[Path], left_out: Sequence[str]) -> int:
    """Print what was written and what was not; the exit code."""
    from harness.core.errors import EXIT_INCOMPLETE, EXIT_OK

    for path in paths:
        typer.echo(str(path))
    for words in left_out:
        typer.echo(f"left out: {visible(words)}", err=True)
    return EXIT_INCOMPLETE if left_out else EXIT_OK
