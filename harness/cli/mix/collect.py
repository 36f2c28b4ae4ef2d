"""harness mix collect: feedback along planned trajectories."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.visible import visible
from harness.cli.workers import RayAddress, Workers


def collect(
    plans: Annotated[Path, typer.Argument(metavar="PLANS", help="Trajectories, as `mix sample` writes them.")],
    tokens: Annotated[Path, typer.Option("--tokens", help="JSON: domain -> file of token ids, .npy or .bin (uint16).")],
    base: Annotated[list[str], typer.Option("--base", help="Model folder that training starts from; with config.json alone, from --seed. Several: drawn for each trajectory.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")],
    spec: Annotated[Path | None, typer.Option("--spec", help="What is measured. Default: the offline fields.")] = None,
    workers: Workers = None,
    ray_address: RayAddress = None,
    worker_gpus: Annotated[float | None, typer.Option("--worker-gpus", min=0, help="GPUs of a Ray worker. Default: 0, since proxies are trained on CPUs.")] = None,
    worker_cpus: Annotated[float | None, typer.Option("--worker-cpus", min=0.01, help="CPUs of a Ray worker. Default: its threads.")] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Of each worker.")] = 1,
    length: Annotated[int, typer.Option("--length", min=2, help="Tokens of a window.")] = 128,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Windows of an optimizer's update.")] = 16,
    updates: Annotated[int, typer.Option("--updates", min=1, help="Of the optimizer, in a step.")] = 8,
    rate: Annotated[float, typer.Option("--rate", help="AdamW's learning rate.")] = 3e-3,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of weights, and of the data's order.")] = 0,
    run: Annotated[str, typer.Option("--run", help="Name of the run in its vectors.")] = "proxies",
) -> None:  # fmt: skip
    """Train a proxy along each trajectory and append its reward vector after every step. Killed, the same command goes on."""
    from pydantic import ValidationError

    from harness.cli.workers import workers_of
    from harness.core.errors import SpecError
    from harness.core.measurement import describe
    from harness.mixing.collect import collect as collect_all
    from harness.mixing.plans import read_plans
    from harness.mixing.steer import Follow, Trajectory
    from harness.mixing.tokens import read_token_list
    from harness.mixing.trainer import Recipe
    from harness.spec.spec import default_spec, load_spec

    if workers == "ray":
        worker_gpus = 0.0 if worker_gpus is None else worker_gpus
        worker_cpus = float(threads) if worker_cpus is None else worker_cpus
    space, planned = read_plans(plans)
    files = read_token_list(tokens)
    try:
        recipe = Recipe(
            tokens=space.in_order(files, what=str(tokens)),
            bases=base,
            length=length,
            rows=rows,
            updates=updates,
            rate=rate,
            seed=seed,
        )
    except ValidationError as error:
        raise SpecError(describe(error, Recipe)) from error
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
        workers=workers_of(workers, ray_address, worker_gpus, worker_cpus),
        threads=threads,
        tell=lambda line: typer.echo(visible(line), err=True),
    )
    typer.echo(f"{out}: {len(found)} reward vectors of {len(found.trajectories)} trajectories")
