"""`--workers` and its options, as several verbs take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.run.executors.cluster import ClusterOptions
    from harness.run.executors.executor import Executor
    from harness.spec.prepared import Prepared

Workers = Annotated[
    str | None,
    typer.Option(
        "--workers",
        metavar="N|ray",
        help="N processes that work side by side, one per GPU, the cores shared out; or the workers of a Ray cluster.",
    ),
]
RayAddress = Annotated[
    str | None, typer.Option("--ray-address", help="Of the Ray cluster. Default: $RAY_ADDRESS, or this machine's.")
]
WorkerGpus = Annotated[
    float | None, typer.Option("--worker-gpus", help="GPUs of a Ray worker. Default: 1 where there are any.", min=0)
]
WorkerCpus = Annotated[float | None, typer.Option("--worker-cpus", help="CPUs of a Ray worker. Default: 1.", min=0.01)]


def workers_of(
    workers: str | None, address: str | None, gpus: float | None, cpus: float | None
) -> int | ClusterOptions | None:
    """What the options name; None for this process. Raises SpecError."""
    from harness.core.errors import SpecError

    if workers != "ray" and (address is not None or gpus is not None or cpus is not None):
        raise SpecError("--ray-address, --worker-gpus and --worker-cpus go with --workers ray")
    if workers is None:
        return None
    if workers == "ray":
        from harness.run.executors.cluster import ClusterOptions

        return ClusterOptions(address=address, gpus=gpus, cpus=1.0 if cpus is None else cpus)
    if not workers.isdecimal() or int(workers) < 1:
        raise SpecError(f"--workers {workers!r} is neither a number from 1 on nor ray")
    return int(workers)


def executor_of(
    prepared: Prepared, workers: str | None, address: str | None, gpus: float | None, cpus: float | None
) -> Executor | None:
    """The executor that the options name; None for this process. Raises SpecError."""
    named = workers_of(workers, address, gpus, cpus)
    if named is None:
        return None
    from harness.run.executors.hired import hired
    from harness.run.executors.local import Measuring

    return hired(Measuring(prepared), named)
