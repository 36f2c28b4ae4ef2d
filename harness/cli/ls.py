"""harness ls: what can be measured."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

NAME = 21
"""Characters of the column of names."""


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
            _item(name, description)
    if what in (What.ALL, What.COMPONENTS):
        typer.echo("components (kind: NAME)")
        for name, target in component_kinds().items():
            _item(name, words_of(target))
    if what in (What.ALL, What.SUITES):
        typer.echo("suites (kind: lm_eval, suite: NAME)")
        for name, benchmarks in suites().items():
            _item(name, ", ".join(benchmark.name for benchmark in benchmarks))
        typer.echo("suites of agents (kind: inspect, suite: NAME)")
        for name, members in families().items():
            _item(name, ", ".join(members))


def _item(name: str, words: str) -> None:
    """One name and what it is; in a narrow terminal the words stay beside the name."""
    import textwrap

    from harness.cli.table import stdout

    head = f"  {name:<{NAME}} "
    width = max(stdout().width, len(head) + 20)
    typer.echo(
        textwrap.fill(
            head + words, width, subsequent_indent=" " * len(head), break_long_words=False, break_on_hyphens=False
        )
    )
