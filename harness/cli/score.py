"""harness score: checkpoints in, reward vectors out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Base, CodeExecution, Quiet, RunName, SpecFile, Trajectory, Weights
from harness.cli.workers import RayAddress, WorkerCpus, WorkerGpus, Workers


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
    field: Annotated[
        list[str] | None,
        typer.Option("--field", "-f", help="Instead of a spec: a named field or a data file. Repeatable."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run folder. Default: results/<name of the first checkpoint>.")
    ] = None,
    base: Base = None,
    run: RunName = None,
    trajectory: Trajectory = None,
    standardize: Annotated[
        str | None, typer.Option("--standardize", help="none, running, or a reference file.")
    ] = None,
    overflow: Annotated[
        str | None, typer.Option("--overflow", help="A pair longer than the context: fail, skip or truncate.")
    ] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="auto, float32, bfloat16, float16 or float64.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")] = None,
    batch_tokens: Annotated[
        int | None, typer.Option("--batch-tokens", help="Tokens per pack, or per padded batch.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Measure failed components again.")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run model code that comes with a checkpoint.")
    ] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Load .bin weights, which can run code.")
    ] = False,
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
    quiet: Quiet = False,
) -> int:
    """Score checkpoints: one reward vector each, appended to OUT/rewards.jsonl.

    Run the same command again after any interruption: it goes on where it stopped.
    """
    from harness.checkpoints.find import find_checkpoints
    from harness.cli.forecast_table import print_forecast
    from harness.cli.progress import PlainObserver, RichObserver, stderr
    from harness.cli.table import incomplete, print_vectors
    from harness.cli.workers import executor_of
    from harness.core.errors import SpecError
    from harness.run.forecast import forecast
    from harness.run.observer import Observer
    from harness.run.pipeline import run as run_pipeline
    from harness.run.shard import shard_of
    from harness.spec.prepared import prepare
    from harness.spec.spec import allow_code_execution, default_spec, load_spec, override, spec_of_fields
    from harness.spec.weights import read_weights, weighted

    if spec is not None and field:
        raise SpecError("--spec and --field exclude each other; name the field in the spec")
    chosen = load_spec(spec) if spec else spec_of_fields(field) if field else default_spec()
    chosen = override(
        chosen,
        standardize=standardize,
        overflow=overflow,
        dtype=dtype,
        device=device,
        batch_tokens=batch_tokens,
        trust_remote_code=trust_remote_code or None,
        allow_pickle=allow_pickle or None,
    )
    if weights is not None:
        chosen = weighted(chosen, read_weights(weights), where=str(weights))
    if code_execution:
        chosen = allow_code_execution(chosen)
    found = find_checkpoints(
        checkpoints,
        base=base,
        trajectory=trajectory,
        allow_pickle=chosen.allow_pickle,
        trust_remote_code=chosen.trust_remote_code,
    )
    prepared = prepare(chosen)
    folder = out or Path("results") / Path(checkpoints[0].partition("@")[0]).resolve().name
    if dry_run:
        return print_forecast(forecast(prepared, found, out=folder, run_name=run))
    part = None
    if shard is not None:
        part, found = shard_of(shard, prepared, found)
    observer = Observer() if quiet else RichObserver() if stderr.is_terminal else PlainObserver()
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
    known = f", {len(here) - summary.n_new} were there before" if summary.n_new < len(here) else ""
    again = f", {summary.n_again} measured again" if summary.n_again else ""
    typer.echo(f"{summary.n_new} vector(s) appended to {summary.path}{known}{again}")
    code = incomplete(here)
    if code and summary.n_new < len(here) and not retry_failed:
        typer.echo("failures of earlier runs are kept; --retry-failed measures them again", err=True)
    return code
