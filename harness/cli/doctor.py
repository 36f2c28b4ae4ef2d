"""harness doctor: what will not work, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Base, CodeExecution, Numbered, SpecFile, Weights, chosen_numbered


def doctor(
    checkpoints: Annotated[
        list[str] | None, typer.Argument(metavar="[CHECKPOINT...]", help="As for `harness score`; none: only the spec.")
    ] = None,
    spec: SpecFile = None,
    weights: Weights = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The run folder that is to be used.")] = None,
    code_execution: CodeExecution = False,
    base: Base = None,
    numbered: Numbered = None,
) -> int:
    """Check spec, data, endpoints, checkpoints, disk and memory in seconds; loads no model, writes nothing but a cache of token ids."""
    from rich.console import Console

    from harness.cli.visible import visible
    from harness.core.errors import EXIT_INCOMPLETE, EXIT_OK
    from harness.run.doctor import examine
    from harness.spec.spec import allow_code_execution, default_spec, load_spec
    from harness.spec.weights import read_weights, weighted

    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    marks = {True: "ok", False: "FAILED", None: "note"}
    n_failed = 0
    chosen = load_spec(spec) if spec else default_spec()
    if weights is not None:
        chosen = weighted(chosen, read_weights(weights), where=str(weights))
    chosen = allow_code_execution(chosen) if code_execution else chosen
    for check in examine(chosen, checkpoints or [], out=out, base=base, numbered=chosen_numbered(numbered)):
        console.print(f"{marks[check.ok]:<7} {check.name}: {visible(check.words)}")
        n_failed += check.ok is False
    if n_failed:
        typer.echo(f"{n_failed} check(s) failed", err=True)
    return EXIT_INCOMPLETE if n_failed else EXIT_OK
