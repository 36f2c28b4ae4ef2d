"""harness tau2: tau2-bench simulations."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import typer

from harness.cli.tau2.convert import convert
from harness.cli.tau2.rescore import rescore
from harness.cli.tau2.run import run
from harness.cli.tau2.scripted import scripted
from harness.cli.tau2.view import view
from harness.tau2.flat import as_option, named

app = typer.Typer(
    help="tau2-bench: simulated customers, tools over a database, verdicts.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def with_options(verb: Callable[..., int | None]) -> Callable[..., int | None]:
    """The verb, with keys in its error messages replaced by options."""

    @functools.wraps(verb)
    def run_verb(*args: Any, **options: Any) -> int | None:
        with named(as_option):
            return verb(*args, **options)

    return run_verb


@app.callback()
def _tau2() -> None:
    pass


app.command("rescore")(with_options(rescore))
app.command("run")(with_options(run))
app.command("scripted")(with_options(scripted))
app.command("convert")(with_options(convert))
app.command("view")(with_options(view))
