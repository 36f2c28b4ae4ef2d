"""harness watch: a training that still runs; every checkpoint is scored when it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import (
    Base,
    CodeExecution,
    Numbered,
    Quiet,
    RunName,
    SpecFile,
    Track,
    Trajectory,
    Weights,
    chosen_numbered,
)
from harness.cli.spec_options import (
    AllowPickle,
    BatchTokens,
    Device,
    Dtype,
    Field,
    Overflow,
    Standardize,
    TrustRemoteCode,
)
from harness.cli.visible import visible
from harness.cli.workers import RayAddress, WorkerCpus, WorkerGpus, Workers


def watch(
    folder: Annotated[Path, typer.Argument(help="Where checkpoint-* appear, or a folder of such folders.")],
    spec: SpecFile = None,
    weights: Weights = None,
    field: Field = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run folder. Default: results/<folder's name>.")
    ] = None,
    base: Base = None,
    run: RunName = None,
    trajectory: Trajectory = None,
    numbered: Numbered = None,
    interval: Annotated[float, typer.Option("--interval", help="Seconds between looks.", min=0.1)] = 10.0,
    settle: Annotated[
        float, typer.Option("--settle", help="Seconds without a change until a folder counts as written.", min=0.0)
    ] = 10.0,
    idle_timeout: Annotated[
        float | None,
        typer.Option("--idle-timeout", help="Stop after so many seconds without a new checkpoint.", min=0.0),
    ] = None,
    standardize: Standardize = None,
    overflow: Overflow = None,
    dtype: Dtype = None,
    device: Device = None,
    batch_tokens: BatchTokens = None,
    trust_remote_code: TrustRemoteCode = False,
    allow_pickle: AllowPickle = False,
    code_execution: CodeExecution = False,
    workers: Workers = None,
    ray_address: RayAddress = None,
    worker_gpus: WorkerGpus = None,
    worker_cpus: WorkerCpus = None,
    track: Track = None,
    quiet: Quiet = False,
) -> int:
    """Score checkpoints of a running training as they appear; complete ones only. Ctrl-C ends it and loses nothing."""
    from harness.checkpoints.find import find_checkpoints
    from harness.checkpoints.watch import Watch
    from harness.cli.progress import PlainObserver, QuietObserver, RichObserver, stderr
    from harness.cli.spec_options import chosen_spec
    from harness.cli.table import appended, incomplete, print_vectors
    from harness.cli.workers import executor_of
    from harness.core.errors import CheckpointError
    from harness.run.pipeline import run as run_pipeline
    from harness.spec.prepared import prepare

    chosen = chosen_spec(
        spec,
        field,
        weights=weights,
        standardize=standardize,
        overflow=overflow,
        dtype=dtype,
        device=device,
        batch_tokens=batch_tokens,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
        code_execution=code_execution,
        track=track,
    )
    counted = chosen_numbered(numbered, "steps")
    prepared = prepare(chosen)
    if folder.is_file():
        raise CheckpointError(f"{folder} is a file; name the folder that the training writes its checkpoints into")
    if not folder.is_dir():
        typer.echo(f"waiting for the training to make {folder}", err=True)
    watched = Watch(
        lambda: find_checkpoints(
            [str(folder)],
            base=base,
            trajectory=trajectory,
            numbered=counted,
            allow_pickle=chosen.allow_pickle,
            trust_remote_code=chosen.trust_remote_code,
        ),
        interval_s=interval,
        settle_s=settle,
        idle_timeout_s=idle_timeout,
        ticks=workers is not None,
    )
    observer = QuietObserver() if quiet else RichObserver() if stderr.is_terminal else PlainObserver()
    with observer:
        summary = run_pipeline(
            prepared,
            watched,
            out=out or Path("results") / folder.resolve().name,
            run_name=run,
            observer=observer,
            executor=executor_of(prepared, workers, ray_address, worker_gpus, worker_cpus),
        )
    print_vectors(summary.feed)
    typer.echo(appended(summary))
    for label in watched.removed:
        typer.echo(f"{visible(label)} was removed before it could be scored", err=True)
    for label, why in watched.waiting.items():
        if label != ".":
            typer.echo(f"{visible(label)} never became whole: {visible(why)}", err=True)
    return incomplete(summary.feed)
