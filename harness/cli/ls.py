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
    SUITES = "suites"


def ls(
    what: Annotated[
        What, typer.Argument(help="Only the named fields, the kinds of components, or the suites.")
    ] = What.ALL,
) -> None:
    """List the named fields, the kinds of components and the suites of benchmarks."""
    from harness.spec.kinds import component_kinds, words_of
    from harness.tasks.reward_env.catalog import named_fields
    from harness.tasks.suites.catalog import suites
    from harness.tasks.suites.families import families

    if what in (What.ALL, What.FIELDS):
        typer.echo("fields (field: NAME, or --field NAME)")
        for name, description in named_fields().items():
            typer.echo(f"  {name:<21} {description}")
    if what in (What.ALL, What.COMPONENTS):
        typer.echo("components (kind: NAME)")
        for name, target in component_kinds().items():
            typer.echo(f"  {name:<21} {words_of(target)}")
    if what in (What.ALL, What.SUITES):
        typer.echo("suites (kind: lm_eval, suite: NAME)")
        for name, benchmarks in suites().items():
            typer.echo(f"  {name:<21} {', '.join(benchmark.name for benchmark in benchmarks)}")
        typer.echo("suites of agents (kind: inspect, suite: NAME)")
        for name, members in families().items():
            typer.echo(f"  {name:<21} {', '.join(members)}")
