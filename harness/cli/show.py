"""harness show: read a feed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def show(
    feeds: Annotated[
        list[Path],
        typer.Argument(metavar="FEED", help="A rewards.jsonl, or the folder it is in; several: one table."),
    ],
    trajectory: Annotated[str | None, typer.Option("--trajectory", "-t", help="Only this trajectory.")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Also plot reward against step (.svg, .png or .pdf).")
    ] = None,
    last: Annotated[
        int, typer.Option("--last", "-n", min=1, help="How many vectors of the end of each feed to show.")
    ] = 40,
    whole: Annotated[bool, typer.Option("--all", "-a", help="Show every vector.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The vectors as JSON lines instead of a table.")] = False,
) -> None:
    """Show the last reward vectors of feeds as a table, and what they warn of. --json gives every one as it stands.

    Where several feeds have trajectories of one name, the folder stands before it: a/mix-0, b/mix-0.
    """
    from harness.cli.table import incomplete, print_vectors, print_warnings, say
    from harness.core.errors import DataError
    from harness.feed.feed import Feed
    from harness.feed.side_by_side import differences, read_feeds

    read = read_feeds(feeds)
    if trajectory is not None:
        found = [
            (vectors, name)
            for vectors in read
            for name in vectors.trajectories
            if name == trajectory or (len(read) > 1 and name.endswith(f"/{trajectory}"))
        ]
        if not found:
            known = ", ".join(name for vectors in read for name in vectors.trajectories) or "none"
            raise DataError(f"no trajectory {trajectory!r} in the feed; it has {known}")
        read = [vectors.trajectory(name) for vectors, name in found]
    together = Feed([vector for vectors in read for vector in vectors])
    if plot is not None:
        from harness.feed.plot import plot_feed

        plot_feed(together, plot)
    if as_json:
        for vector in together:
            typer.echo(vector.to_line().encode())  # UTF-8 whatever the terminal speaks: it is a feed
        return
    if not together:
        say("no vector yet: no checkpoint was scored into it")
    shown = together if whole else Feed([vector for vectors in read for vector in vectors[-last:]])
    if len(shown) < len(together):
        each = f", at most {last} of each feed" if len(read) > 1 else ""
        typer.echo(f"the last {len(shown)} of {len(together):,} vectors{each}; --all shows every one")
    print_vectors(shown)
    for words in differences(read):
        say(words)
    incomplete(shown)
    print_warnings(shown)
    if plot is not None:
        typer.echo(f"plot: {plot}")
