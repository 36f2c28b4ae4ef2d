"""harness report: runs as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.report.keep import Keep


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Run folders or feeds; folders or files of tau2 simulations."),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The page. Default: report.html in the first run's folder.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Its title. Default: the runs' names.")] = None,
    last: Annotated[
        int | None,
        typer.Option(
            "--last",
            "-n",
            min=2,
            max=60,
            help="Checkpoints compared with each other. Default: 24, of many components fewer.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="PLACE", help="One more to compare with, as `harness compare` names it."),
    ] = None,
    simulations: Annotated[
        Keep, typer.Option("--simulations", help="Whose transcripts are kept; the list has every simulation.")
    ] = Keep.ALL,
    max_mb: Annotated[
        float, typer.Option("--max-mb", min=0.2, help="Where the page would be larger, transcripts are left out.")
    ] = 20.0,
) -> None:
    """Write runs as one HTML page: curves, changes, questions, simulations, failures. It opens from the file, without network.

    A run that still goes on is shown as far as it has come.
    """
    from harness.core.errors import SpecError
    from harness.core.journal import write_atomically
    from harness.report.data import Wanted
    from harness.report.page import write_page

    first = runs[0] if runs[0].is_dir() else runs[0].parent
    path = output or first / "report.html"
    if path.is_dir():
        path = path / "report.html"
    if path.suffix not in (".html", ".htm"):
        raise SpecError(f"a report is HTML and {path} does not say so; name a file that ends in .html")
    wanted = Wanted(paths=tuple(runs), title=title, last=last, against=against, keep=simulations)
    content = write_page(wanted, max_bytes=int(max_mb * 1e6))
    write_atomically(path, content)
    typer.echo(f"{path} ({len(content) / 1000:,.0f} kB)")
