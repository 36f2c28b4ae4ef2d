"""Options that several verbs take, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.checkpoints.step_names import Numbered as NumberedChoice

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
Numbered = Annotated[
    str | None,
    typer.Option(
        "--numbered",
        metavar="steps|models",
        help="What models are that differ in a number at the end of their names alone (save-100, save-200): "
        "steps of one training, or models of their own.",
    ),
]
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


def chosen_numbered(given: str | None, default: NumberedChoice = "ask") -> NumberedChoice:
    """The value of `--numbered`. Raises SpecError for anything but steps and models."""
    if given is None:
        return default
    if given == "steps":
        return "steps"
    if given == "models":
        return "models"
    from harness.core.errors import SpecError

    raise SpecError(f"--numbered {given!r} is neither steps nor models; give one of them")
