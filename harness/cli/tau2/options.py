"""Options that several verbs of `harness tau2` take, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def explain_upstream(names: list[str] | None) -> list[str] | None:
    """Print the meaning of the switches and exit for `--upstream list`, even if required options are missing."""
    if names == ["list"]:
        from harness.core.tau2.upstream import MEANING

        typer.echo("\n".join(f"{name:16}{meaning}" for name, meaning in MEANING.items()))
        raise typer.Exit
    return names


Data = Annotated[Path | None, typer.Option("--data", help="Folder with a folder per domain (tasks, policy, database).")]
Source = Annotated[
    str, typer.Option("--source", help="Whose environments: auto, inspect_evals or tau2 (upstream's package).")
]
Retrieval = Annotated[
    str | None, typer.Option("--retrieval", help="How banking_knowledge finds documents; upstream's default.")
]
Upstream = Annotated[
    list[str] | None,
    typer.Option(
        "--upstream",
        callback=explain_upstream,
        is_eager=True,
        help="Do this as upstream does: a name, several, or all; --upstream list explains.",
    ),
]
ReviewerBase = Annotated[str | None, typer.Option("--reviewer-api-base", help="Address of the reviewer's endpoint.")]
ReviewerKey = Annotated[
    str | None, typer.Option("--reviewer-api-key-env", help="Environment variable that holds the reviewer's key.")
]
