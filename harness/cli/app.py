"""The `harness` application: its verbs in the order a user meets them."""

from __future__ import annotations

from typing import Annotated

import typer

import harness
from harness.cli import (
    aggregate,
    compare,
    doctor,
    export,
    fit_reference,
    gate,
    lm_eval,
    ls,
    merge,
    prefetch,
    report,
    schema,
    score,
    serve,
    show,
    tasks,
    update,
    validate,
    watch,
)
from harness.cli.mix.app import app as mix_app
from harness.cli.tau2.app import app as tau2_app

app = typer.Typer(
    name="harness",
    help="Reward vectors for data-mixing agents: score checkpoints on held-out fields.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"harness {harness.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


app.command("score")(score.score)
app.command("watch")(watch.watch)
app.command("merge")(merge.merge)
app.command("doctor")(doctor.doctor)
app.command("prefetch")(prefetch.prefetch)
app.command("serve", context_settings={"allow_extra_args": True})(serve.serve)
app.command("fit-reference")(fit_reference.fit_reference)
app.command("show")(show.show)
app.command("compare")(compare.compare)
app.command("gate")(gate.gate)
app.command("report")(report.report)
app.command("update")(update.update)
app.command("export")(export.export)
app.command("validate")(validate.validate)
app.command("aggregate")(aggregate.aggregate)
app.command("ls")(ls.ls)
app.command("schema")(schema.schema)
app.add_typer(tasks.app, name="tasks")
app.command(
    "lm-eval",
    add_help_option=False,  # lm-eval has its own
    context_settings={
        "help_option_names": [],
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
    },
)(lm_eval.lm_eval)
app.add_typer(tau2_app, name="tau2")
app.add_typer(mix_app, name="mix")
