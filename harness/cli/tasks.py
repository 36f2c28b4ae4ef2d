"""harness tasks: what lm-eval needs to find our tasks."""

from __future__ import annotations

import typer

app = typer.Typer(help="The lm-eval tasks that come with harness.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _tasks() -> None:
    pass


@app.command("path")
def path() -> None:
    """Print the folder for lm_eval's --include_path."""
    from pathlib import Path

    import harness.tasks

    typer.echo(str(Path(harness.tasks.__file__).resolve().parent))
