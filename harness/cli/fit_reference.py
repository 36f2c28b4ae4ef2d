"""harness fit-reference: the frozen standardisation of an agent's training data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def fit_reference(
    feeds: Annotated[
        list[Path], typer.Argument(metavar="FEED...", help="rewards.jsonl files, or the folders they are in.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the reference is written (JSON).")],
) -> None:
    """Fit mean and standard deviation per component over all steps of all trajectories."""
    from harness.core.errors import DataError
    from harness.core.journal import write_atomically
    from harness.feed.feed import read_feed
    from harness.reward_models.reference import fit_reference as fit
    from harness.run.scale import feed_path

    places = [feed_path(feed) for feed in feeds]
    if len(set(places)) < len(places):
        raise DataError("a feed is given twice, so its vectors would count twice; name each feed once")
    vectors = [vector for feed in feeds for vector in read_feed(feed).latest()]
    reference = fit(vectors)
    write_atomically(output, reference.model_dump_json(by_alias=True, indent=2).encode() + b"\n")
    for component in reference.components:
        typer.echo(f"{component.name}: mean {component.mean:.4f}, std {component.std:.4f}, n {component.n}")
        if component.std == 0:
            typer.echo(f"warning: {component.name} does not vary; it will have no standardized value", err=True)
    typer.echo(f"{output}: {reference.id}")
