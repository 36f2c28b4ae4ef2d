"""harness tau2 convert: recorded simulations in the other format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.tau2.recordings.convert import Converted


def convert(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Upstream's results.json or JSON lines of simulations, also .gz.")
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="NAME.json: upstream's results format; NAME.jsonl: JSON lines; also .gz."),
    ],
    domain: Annotated[
        str | None, typer.Option("--domain", "-d", help="The domain, where the file does not say.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder with a folder per domain, for tasks the file lacks.")
    ] = None,
) -> int:
    """Write recorded simulations in upstream's results format, or as JSON lines."""
    from harness.core.errors import EXIT_INCOMPLETE, EXIT_OK
    from harness.tau2.recordings.convert import convert as converted

    made = converted(file, out, domain=domain, data=data)
    write_converted(out, made)
    return EXIT_INCOMPLETE if made.left_out else EXIT_OK


def write_converted(out: Path, made: Converted) -> None:
    """Write the file, and name on stderr what is not in it."""
    from harness.cli.visible import plain
    from harness.core.journal import write_atomically

    write_atomically(out, made.content)
    for name, reason in made.left_out:
        typer.echo(plain(f"{name}: left out: {reason}", width=300).plain, err=True)
    typer.echo(f"{made.n} simulation(s) written to {out}")
