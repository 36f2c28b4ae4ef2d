"""A forecast as a table on stdout, remarks on stderr."""

from __future__ import annotations

import typer
from rich.table import Table

from harness.cli.table import print_table, stdout
from harness.cli.visible import visible
from harness.core.errors import EXIT_INCOMPLETE, EXIT_OK
from harness.run.forecast import Forecast


def duration(seconds: float | None) -> str:
    """An approximate duration in a readable unit."""
    if seconds is None:
        return "unknown"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else "under 1 s"


def _count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def print_forecast(forecast: Forecast) -> int:
    """Print it; the exit code: 0, or 8 when some checkpoints will fail or the run would not begin."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("component", overflow="fold", min_width=8)
    table.add_column("kind")
    for heading in ("checkpoints", "requests", "tokens read", "tokens written", "time"):
        table.add_column(heading, justify="right")
    for line in forecast.lines:
        table.add_row(
            line.component,
            line.kind,
            str(line.n_checkpoints),
            f"{line.requests:,}",
            _count(line.prompt_tokens),
            "-" if line.generated_tokens == 0 else _count(line.generated_tokens),
            duration(line.seconds),
        )
    print_table(stdout(), table)
    known = [line.seconds for line in forecast.lines if line.seconds is not None]
    unknown = len(forecast.lines) - len(known)
    more = f", and {unknown} component(s) whose time is not known before one checkpoint was measured" if unknown else ""
    typer.echo(
        f"{forecast.n_checkpoints} checkpoint(s), {forecast.n_done} there already; time: {duration(sum(known))}{more}"
    )
    for label, why in forecast.broken.items():
        typer.echo(visible(f"{label} will be a failed vector: {why}"), err=True)
    if forecast.stopped_by:
        typer.echo(visible(f"here the run would not begin: {forecast.stopped_by}"), err=True)
    return EXIT_INCOMPLETE if forecast.broken or forecast.stopped_by else EXIT_OK
