"""harness mix: a reference mixing agent."""

from __future__ import annotations

import typer

from harness.cli.mix.collect import collect
from harness.cli.mix.fit import fit
from harness.cli.mix.next import next_mixture
from harness.cli.mix.sample import sample

app = typer.Typer(
    help="A reference mixing agent: trajectories, feedback collected along them, an agent fitted on it, its next mixture.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _mix() -> None:
    pass


app.command("sample")(sample)
app.command("collect")(collect)
app.command("fit")(fit)
app.command("next")(next_mixture)
