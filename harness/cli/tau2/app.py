"""harness tau2: tau2-bench simulations."""

from __future__ import annotations

import typer

from harness.cli.tau2.convert import convert
from harness.cli.tau2.rescore import rescore
from harness.cli.tau2.run import run
from harness.cli.tau2.scripted import scripted
from harness.cli.tau2.view import view

app = typer.Typer(
    help="tau2-bench: simulated customers, tools over a database, verdicts.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _tau2() -> None:
    pass


app.command("rescore")(rescore)
app.command("run")(run)
app.command("scripted")(scripted)
app.command("convert")(convert)
app.command("view")(view)
