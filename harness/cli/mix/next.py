"""harness mix next: the next mixture of a running trajectory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def next_mixture(
    feed: Annotated[Path, typer.Argument(metavar="FEED", help="Run folder or feed of the running training.")],
    agent: Annotated[Path, typer.Option("--agent", help="Folder that `mix fit` wrote.")],
    trajectory: Annotated[
        str | None, typer.Option("--trajectory", help="Which one. Default: that of the last line.")
    ] = None,
) -> None:
    """Print one JSON line: the mixture to train the next step on."""
    import json

    from harness.core.errors import DataError
    from harness.feed.feed import read_feed
    from harness.mixing.agent import Agent

    found = read_feed(feed)
    if not found:
        raise DataError(f"the feed at {feed} is empty; score the model that the training starts from first")
    name = found[-1].trajectory if trajectory is None else trajectory
    mixture = Agent.load(agent).next_of(found, name)
    typer.echo(json.dumps({"trajectory": name, "after_step": found.trajectory(name)[-1].step, "mixture": mixture}))
