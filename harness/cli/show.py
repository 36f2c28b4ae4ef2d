"""harness show: read a feed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def show(
    feed: Annotated[Path, typer.Argument(metavar="FEED", help="A rewards.jsonl, or the folder it is in.")],
    trajectory: Annotated[str | None, typer.Option("--trajectory", "-t", help="Only this trajectory.")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Also plot reward against step (.svg, .png or .pdf).")
    ] = None,
    last: Annotated[int, typer.Option("--last", "-n", min=1, help="How many vectors of the end to show.")] = 40,
    whole: Annotated[bool, typer.Option("--all", "-a", help="Show every vector.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The vectors as JSON lines instead of a table.")] = False,
) -> None:
    """Show the last reward vectors of a feed as a table, and what they warn of. --json gives every one."""
    from harness.cli.table import incomplete, print_vectors, print_warnings
    from harness.feed.feed import read_feed

    vectors = read_feed(feed)
    if trajectory is not None:
        vectors = vectors.trajectory(trajectory)
    if plot is not None:
        from harness.feed.plot import plot_feed

        plot_feed(vectors, plot)
    if as_json:
        for vector in vectors:
            typer.echo(vector.to_line().encode())  # UTF-8 whatever the terminal speaks: it is a feed
        return
    shown = vectors if whole else vectors[-last:]
    if len(shown) < len(vectors):
        typer.echo(f"the last {len(shown)} of {len(vectors):,} vectors; --all shows every one")
    print_vectors(shown)
    incomplete(shown)
    print_warnings(shown)
    if plot is not None:
        typer.echo(f"plot: {plot}")
