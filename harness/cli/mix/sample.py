"""harness mix sample: trajectories of mixtures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sample(
    domains: Annotated[
        Path,
        typer.Argument(metavar="DOMAINS", help="JSON: sources, targets, and sizes or shares of them (docs/mixing.md)."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The trajectories, as JSON.")],
    steps: Annotated[int, typer.Option("--steps", help="Steps of a trajectory at most.")] = 80,
    number: Annotated[int, typer.Option("--number", help="Trajectories.")] = 384,
    k: Annotated[
        list[int] | None,
        typer.Option("--k", help="One of the K best candidates is taken; repeatable. Default: 1, 100, 1000, 10000."),
    ] = None,
    candidates: Annotated[int, typer.Option("--candidates", help="Random mixtures at each step.")] = 20_000,
    tokens_per_step: Annotated[
        float | None,
        typer.Option("--tokens-per-step", help="In the unit of the sizes: end when the target data are used up."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Equal seeds give equal trajectories.")] = 0,
) -> None:
    """Sample trajectories from the start state towards the target state, unlike each other (Algorithm 1 of arXiv 2507.15640)."""
    from harness.core.journal import write_atomically
    from harness.mixing.domains import read_domains
    from harness.mixing.plans import plan_json
    from harness.mixing.sample import K, sample_trajectories

    space = read_domains(domains)
    planned = sample_trajectories(
        space, steps=steps, number=number, k=k or K, candidates=candidates, tokens_per_step=tokens_per_step, seed=seed
    )
    write_atomically(out, plan_json(space, planned).encode() + b"\n")
    typer.echo(f"{len(planned)} trajectories of {len(space.names)} domains written to {out}")
