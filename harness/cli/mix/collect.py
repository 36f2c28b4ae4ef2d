"""harness mix collect: feedback along planned trajectories."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.visible import visible


def collect(
    plans: Annotated[Path, typer.Argument(metavar="PLANS", help="Trajectories, as `mix sample` writes them.")],
    tokens: Annotated[Path, typer.Option("--tokens", help="JSON: domain -> file of token ids, .npy or .bin (uint16).")],
    base: Annotated[list[str], typer.Option("--base", help="Model folder that training starts from; with config.json alone, from --seed. Several: drawn for each trajectory.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")],
    spec: Annotated[Path | None, typer.Option("--spec", help="What is measured. Default: the offline fields.")] = None,
    processes: Annotated[int, typer.Option("--processes", min=1, help="Proxies trained side by side.")] = 1,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Of each process.")] = 1,
    length: Annotated[int, typer.Option("--length", min=2, help="Tokens of a window.")] = 128,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Windows of an optimizer's update.")] = 16,
    updates: Annotated[int, typer.Option("--updates", min=1, help="Of the optimizer, in a step.")] = 8,
    rate: Annotated[float, typer.Option("--rate", help="AdamW's learning rate.")] = 3e-3,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of weights, and of the data's order.")] = 0,
    run: Annotated[str, typer.Option("--run", help="Name of the run in its vectors.")] = "proxies",
) -> None:  # fmt: skip
    """Train a proxy along each trajectory and append its reward vector after every step. Killed, the same command goes on."""
    from harness.mixing.collect import collect as collect_all
    from harness.mixing.plans import read_plans
    from harness.mixing.steer import Follow, Trajectory
    from harness.mixing.tokens import read_token_list
    from harness.mixing.trainer import Recipe
    from harness.spec.spec import default_spec, load_spec

    space, planned = read_plans(plans)
    files = read_token_list(tokens)
    recipe = Recipe(
        tokens=space.in_order(files, what=str(tokens)),
        bases=base,
        length=length,
        rows=rows,
        updates=updates,
        rate=rate,
        seed=seed,
    )
    found = collect_all(
        [
            Trajectory(
                name=one.name,
                policy=Follow.of(one),
                steps=len(one.rho) - 1,
                seed=seed + index,
                start=space.mixture(one.rho[0]),
            )
            for index, one in enumerate(planned)
        ],
        recipe=recipe,
        spec=default_spec() if spec is None else load_spec(spec),
        out=out,
        run=run,
        processes=processes,
        threads=threads,
        tell=lambda line: typer.echo(visible(line), err=True),
    )
    typer.echo(f"{out}: {len(found)} reward vectors of {len(found.trajectories)} trajectories")
