"""harness mix fit: an agent from feeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.visible import visible


def fit(
    feeds: Annotated[list[Path], typer.Argument(metavar="FEED...", help="Run folders or feeds with trajectories to learn from.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the agent.")],
    domains: Annotated[
        Path | None, typer.Option("--domains", help="The space, as of `mix sample`; gives order and start state.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Of fit-reference. Default: fitted on these feeds.")
    ] = None,
    warm_up: Annotated[int, typer.Option("--warm-up", min=0, help="Iterations of imitation.")] = 300,
    iterations: Annotated[int, typer.Option("--iterations", min=0, help="Iterations of CQL.")] = 400,
    width: Annotated[int, typer.Option("--width", min=1, help="Of the networks, a multiple of 8.")] = 296,
    raw: Annotated[bool, typer.Option("--raw", help="Learn from Eq. 6's raw gain, not from the standardised one.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Equal seeds and feeds give equal agents.")] = 0,
) -> None:  # fmt: skip
    """Fit an agent offline: warm-up by imitation, then Conservative Q-Learning (arXiv 2507.15640)."""
    from pydantic import ValidationError

    from harness.core.errors import SpecError
    from harness.core.measurement import describe
    from harness.feed.feed import read_feed
    from harness.mixing.agent import Agent, Settings
    from harness.mixing.domains import read_domains
    from harness.mixing.episodes import episodes, joined
    from harness.reward_models.reference import fit_reference
    from harness.spec.prepared import read_reference

    feed = joined({str(path): read_feed(path) for path in feeds})
    space = None if domains is None else read_domains(domains)
    frozen = fit_reference(feed.latest().vectors) if reference is None else read_reference(reference)
    data = episodes(
        feed,
        frozen,
        domains=None if space is None else space.names,
        start=None if space is None else space.mixture(space.start),
    )
    for reason in data.left_out:
        typer.echo(f"left out: {visible(reason)}", err=True)
    try:
        settings = Settings(
            width=width, steps=data.states.shape[1], seed=seed, warm_up_iterations=warm_up, iterations=iterations
        )
    except ValidationError as error:
        raise SpecError(describe(error, Settings)) from error
    agent = Agent(data.domains, data.components, settings=settings, reference=frozen)
    agent.warm_up(data).improve(data, standardized=not raw).save(out)
    typer.echo(f"{out}: {'; '.join(agent.card.history)}")
