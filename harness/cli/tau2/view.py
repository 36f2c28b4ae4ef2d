"""harness tau2 view: read simulations in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.core.tau2.simulation import Simulation, Unreadable
    from harness.tau2.recordings.read import Opened

WIDE = 110
"""Columns from which the verdict stands beside the transcript, and above it otherwise."""
VERDICT_WIDTH = 44


def view(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A run's folder, upstream's results.json, or JSON lines, also .gz.")
    ],
    task: Annotated[str | None, typer.Option("--task", "-t", help="The task to read; without it, a list.")] = None,
    trial: Annotated[int | None, typer.Option("--trial", help="The trial, from 0, where a task has several.")] = None,
    identity: Annotated[str | None, typer.Option("--id", help="The simulation to read, by its id.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Nothing is cut.")] = False,
    domain: Annotated[
        str | None, typer.Option("--domain", "-d", help="The domain, where the file does not say.")
    ] = None,
    tasks_file: Annotated[Path | None, typer.Option("--tasks-file", help="Judge by these tasks.")] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder with a folder per domain (tasks, policy, database).")
    ] = None,
) -> None:
    """Read a simulation turn by turn, with its verdict beside it; or list the simulations of a file."""
    from harness.cli.visible import visible
    from harness.tau2.recordings.read import open_recording

    opened = open_recording(file, domain=domain, data=data, tasks_file=tasks_file)
    if opened.why_not is not None:
        typer.echo(f"only recorded verdicts are shown: {visible(opened.why_not)}", err=True)
    found = opened.find(task_id=task, trial=trial, identity=identity)
    if len(found) > 1 or task is identity is None:
        _list(opened, found)
        if task is not None:
            typer.echo(f"{len(found)} simulations; name one with --trial or --id", err=True)
        return
    _show(opened, found[0], full=full)


def _list(opened: Opened, found: Sequence[Simulation | Unreadable]) -> None:
    from rich.table import Table

    from harness.cli.table import stdout
    from harness.cli.visible import plain
    from harness.core.tau2.simulation import Simulation
    from harness.tau2.recordings.read import trial_of

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("task", overflow="fold")
    for heading in ("trial", "messages", "recorded", "reward"):
        table.add_column(heading, justify="right")
    table.add_column("ended by", overflow="fold")
    table.add_column("fault", overflow="fold")
    table.add_column("id", overflow="fold")
    for one in found:
        now = opened.verdict(one)
        fault = now.fault if now is not None else None
        table.add_row(
            plain(one.task_id, 80),
            "-" if trial_of(one) is None else str(trial_of(one)),
            str(len(one.messages)) if isinstance(one, Simulation) else "-",
            _number(one.recorded.reward),
            _number(now.verdict.reward if now is not None else None),
            plain(one.termination_reason if isinstance(one, Simulation) else "unreadable", 24),
            plain("" if fault is None else f"{fault.cause}: {fault.words}", 100),
            plain(one.id, 40),
        )
    stdout().print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _show(opened: Opened, simulation: Simulation | Unreadable, *, full: bool) -> None:
    from rich.console import Group
    from rich.table import Table

    from harness.cli.table import stdout
    from harness.cli.tau2.transcript import FULL, SHORT, transcript, verdict
    from harness.core.tau2.simulation import Simulation

    limits = FULL if full else SHORT
    now = opened.verdict(simulation)
    console = stdout()
    beside = verdict(simulation, opened.task(simulation), now, limits)
    if not isinstance(simulation, Simulation):
        console.print(beside)
        return
    messages = transcript(simulation, now.fault if now is not None else None, limits)
    if console.is_terminal and console.width >= WIDE:
        grid = Table.grid(padding=(0, 3))
        grid.add_column(ratio=1, overflow="fold")
        grid.add_column(width=VERDICT_WIDTH, overflow="fold")
        grid.add_row(Group(*messages), beside)
        console.print(grid)
        return
    console.print(beside)
    console.print()
    for message in messages:
        console.print(message)
