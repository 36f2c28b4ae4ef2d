"""harness gate: go, no-go or inconclusive, as an exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.compare import PLACE


def gate(
    run: Annotated[str, typer.Argument(metavar="RUN", help=f"What is judged: {PLACE}")],
    against: Annotated[str, typer.Option("--against", help="What it is compared with, named alike.")],
    policy: Annotated[
        Path, typer.Option("--policy", help="Tolerated losses and demanded gains (YAML, docs/compare.md).")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON instead of a table.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="A table for a pull request.")] = False,
) -> None:
    """Judge a checkpoint by a policy: GO (exit code 0), NO-GO (9) or INCONCLUSIVE (10).

    RUN without a step is judged at its last; what it is compared with, without a step of its own, is taken at the same step
    or, where it lacks that, at its last. What could not be measured never passes.
    """
    from harness.cli.gate_table import as_document, as_markdown, exit_code, print_result
    from harness.core.errors import SpecError
    from harness.feed.compare import compare
    from harness.reward_models.gate import decide
    from harness.spec.policy import load_policy

    if as_json and markdown:
        raise SpecError("--json and --markdown: give one of them")
    rules = load_policy(policy)
    made = [decide(one, rules) for one in compare(against, [run], newest=True)]
    if as_json:
        typer.echo(as_document(made).encode())
    elif markdown:
        typer.echo("\n".join(as_markdown(one) for one in made).encode())
    else:
        for one in made:
            print_result(one)
    raise typer.Exit(exit_code(made))
