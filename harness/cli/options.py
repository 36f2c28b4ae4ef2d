"""Options that several verbs take, each declared once. Types only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SpecFile = Annotated[
    Path | None, typer.Option("--spec", "-s", help="What to measure (YAML). Default: offline stdlib fields.")
]
Base = Annotated[str | None, typer.Option("--base", help="Base model of adapters, instead of the one they name.")]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights", metavar="FILE", help="Weights in place of the spec's, as `harness validate -o` writes them."
    ),
]
RunName = Annotated[str | None, typer.Option("--run", help="Name of the run. Default: from the spec's digest.")]
Trajectory = Annotated[str | None, typer.Option("--trajectory", help="Name of the trajectory. Default: its folder's.")]
CodeExecution = Annotated[
    bool,
    typer.Option("--allow-code-execution", help="Run programs that a model wrote (HumanEval, MBPP), in a sandbox."),
]
Track = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="NAME[:PROJECT]",
        help="A tracker that gets every vector too, in place of the spec's: wandb, trackio, tensorboard, mlflow. Repeatable.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only warnings and the table.")]
