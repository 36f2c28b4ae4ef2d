"""harness compare: checkpoints against one, component by component."""

from __future__ import annotations

from typing import Annotated

import typer

PLACE = "RUN, RUN@STEP, RUN:TRAJECTORY@STEP (a run folder or feed; STEP a number, first or last), or a result folder of lm-eval."


def compare(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help=f"What the others are compared with: {PLACE}")],
    after: Annotated[list[str], typer.Argument(metavar="AFTER...", help="One or several, named alike.")],
    seeds: Annotated[
        bool,
        typer.Option(
            "--seeds", help="Several trajectories of a side are seeds of one training, whatever they are called."
        ),
    ] = False,
    every: Annotated[bool, typer.Option("--all", "-a", help="Name every item that flipped.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON instead of tables.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables for a pull request.")] = False,
) -> None:
    """Compare checkpoints item by item: change, interval, p, what was learned and what was forgotten.

    Without steps both are taken at the highest step that both have (without one in common, each at its last); where one has
    a step, the other is taken at its last. Several trajectories on both sides are compared like with like; trajectories or
    folders whose names differ in `seedN` alone are seeds of one training: their mean is compared, and their spread shown.

    Exit code 8 where a component failed or was refused on a side.
    """
    from harness.cli.comparison_table import as_document, as_markdown, print_comparison, unfinished
    from harness.core.errors import DataError, SpecError
    from harness.feed.compare import compare as compared
    from harness.reward_models.comparison import nothing_compared

    if as_json and markdown:
        raise SpecError("--json and --markdown: give one of them")
    made = compared(before, after, seeds=seeds)
    if (why := nothing_compared(made)) is not None:
        raise DataError(why)
    if as_json:
        typer.echo(as_document(made).encode())
    elif markdown:
        typer.echo("\n".join(as_markdown(one, every=every) for one in made).encode())
    else:
        for one in made:
            print_comparison(one, every=every)
    raise typer.Exit(unfinished(made))
