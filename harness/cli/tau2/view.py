"""harness tau2 view: read simulations in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from harness.core.tau2.simulation import Simulation, Unreadable
    from harness.tau2.recordings.read import Opened

WIDE = 110
"""Columns of a terminal from which the verdict is shown next to the transcript, else above it."""
VERDICT_WIDTH = 44
RECORDS_SHOWN = 10
NAME = 400
"""Characters of a task's or simulation's id that are shown."""


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

    opened = open_recording(_simulations_in(file), domain=domain, data=data, tasks_file=tasks_file)
    if opened.why_not is not None:
        typer.echo(f"only recorded verdicts are shown: {visible(opened.why_not)}", err=True)
    found = opened.find(task_id=task, trial=trial, identity=identity)
    if len(found) > 1 or task is identity is None:
        list_simulations(opened, found)
        if task is not None:
            typer.echo(f"{len(found)} simulations; name one with --trial or --id", err=True)
        return
    _show(opened, found[0], full=full)


def _simulations_in(path: Path) -> Path:
    """The path itself; for a run folder of `score` the folder of its simulations. Raises DataError where it has none or several."""
    from harness.core.errors import DataError
    from harness.feed.lines import FEED_FILE
    from harness.report.places import standings
    from harness.report.simulations import groups
    from harness.report.source import Run, read_sources

    if not (path / FEED_FILE).exists():
        return path
    runs = [source for source in read_sources([path]) if isinstance(source, Run)]
    found = groups(standings(runs), [])
    if len(found) == 1:
        return found[0].path
    if not found:
        raise DataError(
            f"{path} is a run without simulations: none of its components is of kind tau2, or none was served"
        )
    some = "; ".join(f"{one.path} ({one.name})" for one in found[:8]) + ("; ..." if len(found) > 8 else "")
    raise DataError(f"{path} has simulations of {len(found)} measurements; name one of {some}")


def list_simulations(opened: Opened, found: Sequence[Simulation | Unreadable], console: Console | None = None) -> None:
    """Print a line per simulation; wide columns only in a wide terminal."""
    from rich.table import Table
    from rich.text import Text

    from harness.cli.table import stdout
    from harness.cli.visible import plain
    from harness.core.tau2.simulation import Simulation
    from harness.tau2.recordings.read import trial_of

    console = console or stdout()
    rows = [(one, opened.verdict(one)) for one in found]
    narrow = console.width < WIDE  # of what is wide only the cause stays, and an id where nothing else tells two apart
    places = [(one.task_id, trial_of(one)) for one in found]
    named = not narrow or len(set(places)) < len(places)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("task", overflow="fold")
    for heading in ("trial", "reward") if narrow else ("trial", "messages", "recorded", "reward"):
        table.add_column(heading, justify="right")
    for heading in ("ended by", "fault", *(["id"] if named else [])):
        table.add_column(heading, overflow="fold")
    for one, now in rows:
        fault = now.fault if now is not None else None
        then, here = _number(one.recorded.reward), _number(now.verdict.reward if now is not None else None)
        trial = "-" if trial_of(one) is None else str(trial_of(one))
        ended = plain(one.termination_reason if isinstance(one, Simulation) else "unreadable", 24)
        cells: list[str | Text]
        if narrow:
            reward = here if then in (here, "-") else then if now is None else f"{then}, now {here}"
            cells = [trial, reward, ended, plain("" if fault is None else fault.cause, 20)]
        else:
            words = plain("" if fault is None else f"{fault.cause}: {fault.words}", 100)
            cells = [trial, str(len(one.messages)) if isinstance(one, Simulation) else "-", then, here, ended, words]
        # Whole, since they are what --task and --id take: of telecom's tasks hundreds begin alike.
        table.add_row(plain(one.task_id, NAME), *cells, *([plain(one.id, NAME)] if named else []))
    console.print(table)


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
    failed = now is not None and now.verdict.reward is not None and now.verdict.reward < 1
    differing = opened.differing(simulation) if now is not None and now.verdict.components.get("DB") == 0.0 else []
    records = list(map(str, differing if full else differing[:RECORDS_SHOWN]))
    if len(differing) > len(records):
        records.append(f"and {len(differing) - len(records)} more; --full shows them")
    unmet = opened.unmet(simulation) if failed else []
    beside = verdict(simulation, opened.task(simulation), now, limits, unmet=unmet, records=records)
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
