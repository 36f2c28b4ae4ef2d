"""harness ls: what can be measured."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class What(StrEnum):
    """What `harness ls` lists."""

    ALL = "all"
    FIELDS = "fields"
    COMPONENTS = "components"


def ls(
    what: Annotated[What, typer.Argument(help="Only the named fields, or only the kinds of components.")] = What.ALL,
) -> None:
    """List the named fields and the kinds of components."""
    from harness.plugins import component_kinds
    from harness.tasks.reward_env.catalog import named_fields

    if what is not What.COMPONENTS:
        typer.echo("fields (field: NAME, or --field NAME)")
        for name, description in named_fields().items():
            typer.echo(f"  {name:<21} {description}")
    if what is not What.FIELDS:
        typer.echo("components (kind: NAME)")
        for name, target in component_kinds().items():
            typer.echo(f"  {name:<21} {target}")
