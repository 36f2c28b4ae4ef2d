"""harness merge: the shards of a run become one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def merge(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The run folder to be written.")],
    shards: Annotated[
        list[Path], typer.Argument(metavar="SHARD...", help="The folders that `harness score --shard I/N` wrote.")
    ],
) -> int:
    """Put the shards of a run together: the feed is that of a run that was never split."""
    from harness.cli.table import incomplete, print_vectors
    from harness.run.merge import merge as merged

    made = merged(out, shards)
    print_vectors(made.feed)
    typer.echo(f"{len(made.feed)} vector(s) of {made.n_shards} shard(s) written to {made.path}")
    if len(made.products) > 1:
        typer.echo(
            f"the shards' machines multiply by {' and '.join(made.products)}, which differ in the last places", err=True
        )
    return incomplete(made.feed)
