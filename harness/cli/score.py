"""harness score: checkpoints in, reward vectors out."""

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
from harness.cli.workers import RayAddress, WorkerCpus, WorkerGpus, Workers


def default_out(checkpoint: str) -> Path:
    """results/<folder>, for a single step results/<training>-<step>: every training has a checkpoint-100."""
    from harness.checkpoints.step_names import step_of

    path = Path(checkpoint.partition("@")[0]).resolve()
    return Path("results") / (path.name if step_of(path.name) is None else f"{path.parent.name}-{path.name}")


def score(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINT...",
            help="Model or adapter folder, training output folder with checkpoint-*, a folder of those, or org/name@revision.",
        ),
    ],
    spec: SpecFile = None,
    weights: Weights = None,
    field: Field = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Run folder. Default: results/<name of the first checkpoint>, with its training's for a step.",
        ),
    ] = None,
    base: Base = None,
    run: RunName = None,
    trajectory: Trajectory = None,
    numbered: Numbered = None,
    standardize: Standardize = None,
    overflow: Overflow = None,
    dtype: Dtype = None,
    device: Device = None,
    batch_tokens: BatchTokens = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Measure failed components again.")] = False,
    trust_remote_code: TrustRemoteCode = False,
    allow_pickle: AllowPickle = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would run: requests, tokens, time. Writes nothing.")
    ] = False,
    code_execution: CodeExecution = False,
    workers: Workers = None,
    ray_address: RayAddress = None,
    worker_gpus: WorkerGpus = None,
    worker_cpus: WorkerCpus = None,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard", metavar="I/N", help="Only every N-th checkpoint, the I-th first; `harness merge` joins them."
        ),
    ] = None,
    track: Track = None,
    quiet: Quiet = False,
) -> int:
    """Score checkpoints: one reward vector each, appended to OUT/rewards.jsonl.

    Run the same command again after any interruption: it goes on where it stopped.
    """
    from harness.checkpoints.find import find_checkpoints
    from harness.cli.forecast_table import print_forecast
    from harness.cli.progress import PlainObserver, QuietObserver, RichObserver, stderr
    from harness.cli.spec_options import chosen_spec
    from harness.cli.table import appended, incomplete, print_vectors
    from harness.cli.workers import executor_of
    from harness.run.forecast import forecast
    from harness.run.pipeline import run as run_pipeline
    from harness.run.shard import shard_of
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
    found = find_checkpoints(
        checkpoints,
        base=base,
        trajectory=trajectory,
        numbered=chosen_numbered(numbered),
        allow_pickle=chosen.allow_pickle,
        trust_remote_code=chosen.trust_remote_code,
    )
    prepared = prepare(chosen)
    folder = out or default_out(checkpoints[0])
    part = None
    if shard is not None:
        part, found = shard_of(shard, prepared, found)
    if dry_run:
        return print_forecast(forecast(prepared, found, out=folder, run_name=run))
    observer = QuietObserver() if quiet else RichObserver() if stderr.is_terminal else PlainObserver()
    with observer:
        summary = run_pipeline(
            prepared,
            found,
            out=folder,
            run_name=run,
            retry_failed=retry_failed,
            observer=observer,
            executor=executor_of(prepared, workers, ray_address, worker_gpus, worker_cpus),
            shard=part,
        )
    here = summary.here
    print_vectors(here)
    typer.echo(appended(summary))
    code = incomplete(here)
    if code and summary.n_new < len(here) and not retry_failed:
        typer.echo("failures of earlier runs are kept; --retry-failed measures them again", err=True)
    return code
