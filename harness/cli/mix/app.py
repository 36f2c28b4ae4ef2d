"""harness mix: a reference mixing agent."""

from __future__ import annotations

import typer

from harness.cli.mix.sample import sample

app = typer.Typer(
    help="A reference mixing agent: trajectories to collect feedback along.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _mix() -> None:
    pass


app.command("sample")(sample)
