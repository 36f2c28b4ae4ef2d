"""harness update: a run folder of an earlier version gets what this version computes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def update(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
) -> None:
    """Compute changes, errors, intervals and reliability of a run's vectors anew from its per-item scores.

    Measures nothing; raw values, scalars and gains stay as they are.
    """
    from harness.cli.table import print_warnings
    from harness.run.update import update as update_run

    done = update_run(run)
    typer.echo(f"{done.n_changed} of {len(done.feed)} vector(s) brought up to date in {done.path}")
    print_warnings(done.feed)
