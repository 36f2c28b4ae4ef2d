"""Reward vectors as a table, `value ± stderr` as lm-eval prints it, and the exit code they mean. Writes to stdout."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from harness.cli.visible import visible
from harness.core.errors import EXIT_INCOMPLETE, EXIT_OK
from harness.core.vector import ComponentRecord, RewardVector
from harness.reward_models.component_comparison import WORDS, Word, verdict
from harness.reward_models.interval import beyond
from harness.reward_models.reference import label
from harness.reward_models.telling import telling
from harness.tasks.suites.choices import KINDS

if TYPE_CHECKING:
    from harness.run.pipeline import RunSummary

PIPE_WIDTH = 10_000
"""Columns where stdout is not a terminal, so that tables are not wrapped in files."""
GAP = 2
"""Columns of the terminal between two of a table."""
STEPS_SHOWN = 12
"""Trajectories whose last step is described on stderr."""


def stdout() -> Console:
    """A console for results, made when it is needed so that a redirected stdout is used.

    A character that the terminal's encoding lacks is replaced, so that a long run does not end in an error at its table.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    console = Console(markup=False, emoji=False)
    return console if console.is_terminal else Console(markup=False, emoji=False, width=PIPE_WIDTH)


def cell(component: ComponentRecord) -> str:
    """`-2.5312 ± 0.0131`; with `(scored/items)` where not every item was scored, `!` at an alarm; the status where there is no value."""
    if component.raw is None:
        return component.status
    error = "" if component.stderr is None else f" ± {component.stderr:.4f}"
    mark = "" if component.status == "ok" else f" ({component.n_scored}/{component.n_items})"
    return f"{component.raw:.4f}{error}{mark}{' !' if component.alarm else ''}"


def number(value: float | None, *, sign: bool = False) -> str:
    """Four decimals, or a dash for None."""
    if value is None:
        return "-"
    return f"{value:+.4f}" if sign else f"{value:.4f}"


def gain_cell(vector: RewardVector) -> str:
    """`+0.1858 ± 0.0094*`; `*` where it is beyond its error, a dash where there is no gain."""
    if vector.gain is None or vector.gain_stderr is None:
        return number(vector.gain, sign=True)
    mark = "*" if beyond(vector.gain, vector.gain_stderr, vector.gain_df) else ""
    return f"{vector.gain:+.4f} ± {vector.gain_stderr:.4f}{mark}"


def summary_line(vector: RewardVector) -> str:
    """One vector in one line."""
    parts = ", ".join(f"{component.name} {cell(component)}" for component in vector.components)
    return visible(f"{label(vector)}: {parts}, scalar {number(vector.scalar)}, gain {gain_cell(vector)}")


class Group(NamedTuple):
    """Columns that stay together: (heading, cells) each."""

    columns: list[tuple[str, list[str]]]

    @property
    def width(self) -> int:
        """Characters, with the gap before each column."""
        return sum(GAP + max(map(cell_len, (heading, *cells))) for heading, cells in self.columns)


def print_vectors(vectors: Sequence[RewardVector], console: Console | None = None) -> None:
    """A row per vector, with a column per component of any of them; in a narrow terminal several tables below each other.

    No number is ever broken or left out: where a component does not fit beside the trajectory's name, each trajectory is a
    table below its name; where it does not fit even beside the step, a line per vector.
    """
    console = console or stdout()
    steps = ("step", ["-" if vector.step is None else str(vector.step) for vector in vectors])
    names = ("trajectory", [visible(vector.trajectory) for vector in vectors])
    if not _print_beside([names, steps], _groups(vectors), console):
        alone: dict[str, list[RewardVector]] = {}
        for vector in vectors:
            alone.setdefault(vector.trajectory, []).append(vector)
        for at, (name, of) in enumerate(alone.items()):
            if at:
                console.print()
            _print_line(console, f"trajectory {visible(name)}")
            step = ("step", ["-" if vector.step is None else str(vector.step) for vector in of])
            if not _print_beside([step], _groups(of), console):
                for vector in of:
                    _print_line(console, summary_line(vector))
    print_steps(vectors)
    print_alarms(vectors)
    print_unlike(vectors)
    print_caveats(vectors)


def print_columns(console: Console, place: tuple[str, list[str]], columns: Sequence[tuple[str, list[str]]]) -> None:
    """Print columns (heading, cells) beside `place`; in a narrow terminal several tables, each with `place`.

    Where one does not fit even alone, a line per row: no number is ever broken or left out.
    """
    if _print_beside([place], [Group([column]) for column in columns], console):
        return
    for at, name in enumerate(place[1]):
        said = ", ".join(f"{heading} {cells[at]}" for heading, cells in columns if cells[at])
        _print_line(console, f"{name}: {said}")


def _print_beside(place: Sequence[tuple[str, list[str]]], groups: Sequence[Group], console: Console) -> bool:
    """Print place columns and groups, in as many tables as needed. False, and nothing printed, if a group does not fit."""
    left = console.width - (Group(list(place)).width - GAP)
    if any(group.width > left for group in groups):
        return False
    for at, block in enumerate(_blocks(groups, left)):
        if at:
            console.print()
        console.print(_table([*place, *(column for group in block for column in group.columns)]))
    return True


def _print_line(console: Console, words: str) -> None:
    console.print(words, markup=False, emoji=False, highlight=False, soft_wrap=True)


def _groups(vectors: Sequence[RewardVector]) -> list[Group]:
    return [*_component_groups(vectors), _scalar_group(vectors)]


def _component_groups(vectors: Sequence[RewardVector]) -> Iterator[Group]:
    """Value and z of each component."""
    standardized = any(value is not None for vector in vectors for value in vector.standardized)
    by_name = [{component.name: component for component in vector.components} for vector in vectors]
    for name in dict.fromkeys(name for of in by_name for name in of):
        every = [of.get(name) for of in by_name]
        columns = [(name, ["-" if one is None else cell(one) for one in every])]
        if standardized:
            columns.append(("z", [_z_cell(one) for one in every]))
        yield Group(columns)


def _scalar_group(vectors: Sequence[RewardVector]) -> Group:
    scalars = [number(vector.scalar) for vector in vectors]
    return Group([("scalar", scalars), ("gain", [gain_cell(vector) for vector in vectors])])


def _z_cell(component: ComponentRecord | None) -> str:
    return "-" if component is None or component.standardized is None else f"{component.standardized:+.2f}"


def _blocks(groups: Sequence[Group], width: int) -> Iterator[list[Group]]:
    """Groups in order, as many to a table as fit."""
    block: list[Group] = []
    for group in groups:
        if block and sum(one.width for one in block) + group.width > width:
            yield block
            block = []
        block.append(group)
    yield block


def _table(columns: Sequence[tuple[str, list[str]]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for at, (heading, _) in enumerate(columns):
        table.add_column(heading, justify="left" if at == 0 else "right", no_wrap=True)
    for row in zip(*(cells for _, cells in columns), strict=True):
        table.add_row(*row)
    return table


def print_table(console: Console, table: Table) -> None:
    """Print a table; where it would have to break a word or a number, a line per row with the columns' names.

    Cells are str. A column that may not wrap is as wide as its widest cell.
    """
    least = Measurement.get(console, console.options.update(width=PIPE_WIDTH), table).minimum
    if least <= console.width:
        console.print(table)
        return
    others = table.columns[1:]
    for row in zip(*(column.cells for column in table.columns), strict=True):
        said = ", ".join(f"{column.header} {cell}" for column, cell in zip(others, row[1:], strict=True) if cell)
        _print_line(console, f"{row[0]}: {said}")


def appended(summary: RunSummary) -> str:
    """How many vectors a run appended and where, how many were there before, how many were measured again."""
    known = len(summary.here) - summary.n_new
    before = f", {known} were there before" if known else ""
    again = f", {summary.n_again} measured again" if summary.n_again else ""
    return f"{summary.n_new} vector(s) appended to {summary.path}{before}{again}"


def print_steps(vectors: Sequence[RewardVector]) -> None:
    """Of each trajectory's last step, what was learned and what was forgotten, on stderr."""
    last = {vector.trajectory: (vector, words) for vector in vectors if (words := step_words(vector))}
    for vector, words in list(last.values())[:STEPS_SHOWN]:
        say(f"{visible(vector.trajectory)}, step {vector.previous_step} to {vector.step}: {words}")
    if len(last) > STEPS_SHOWN:
        say(f"... and {len(last) - STEPS_SHOWN} more trajectories")
    if any(gain_cell(vector).endswith("*") for vector in vectors):
        say("* a gain beyond its error, at 95%")


def print_alarms(vectors: Sequence[RewardVector]) -> None:
    """Of each trajectory's component, its last alarm, on stderr, and whether it is over."""
    last = {(vector.trajectory, c.name): (vector, c) for vector in vectors for c in vector.alarms}
    newest = {vector.trajectory: vector for vector in vectors}
    for vector, component in list(last.values())[:STEPS_SHOWN]:
        now = newest[vector.trajectory]
        calm = any(c.name == component.name and c.alarm is False for c in now.components)
        say(alarm_words(vector, component) + (f"; no alarm at step {now.step}" if calm else ""))
    if len(last) > STEPS_SHOWN:
        say(f"... and {len(last) - STEPS_SHOWN} more alarms")


def alarm_words(vector: RewardVector, component: ComponentRecord) -> str:
    """What was lost, since when, and what is allowed."""
    return (
        f"ALARM {visible(vector.trajectory)}, step {vector.step}: source {component.name} has lost {number(component.loss)} "
        f"since step {component.best_step}, at least {number(component.loss_bound)}; allowed are {component.allowed_loss:g}"
    )


def say(words: str) -> None:
    """Print one line on stderr, control characters escaped."""
    Console(stderr=True).print(visible(words), markup=False, emoji=False, highlight=False, soft_wrap=True)


def step_words(vector: RewardVector) -> str:
    """Per verdict the components whose change has an error: learned, forgotten, ..., or within error (95%)."""
    said: dict[Word, list[str]] = {}
    for component in vector.components:
        if component.change is None or component.change_stderr is None:
            continue
        better = component.change > 0 if component.higher_is_better else component.change < 0
        surely = beyond(component.change, component.change_stderr, component.change_df)
        word = verdict(component.role, better=better, beyond=surely)
        words = f"{component.name} {component.change:+.4f} ± {component.change_stderr:.4f}"
        said.setdefault(word, []).append(words if component.role == "target" else f"{words} (source)")
    return "; ".join(f"{word} {', '.join(said[word])}" for word in WORDS if word in said)


SHARES = ("acc", "exact_match", "pass@", "pass_at", "reward", "f1", "mean of benchmarks", *KINDS)
"""Prefixes of metrics that are shares of 1."""


def unit_of(metric: str) -> str:
    """The unit of a metric, for adding values: all shares have the same one, any other metric its own."""
    return "share" if metric.startswith(SHARES) else metric


def print_unlike(vectors: Sequence[RewardVector]) -> None:
    """Warn once, on stderr, if a scalar adds different units, since the largest decides it."""
    found: dict[str, dict[str, None]] = {}
    names: dict[str, str] = {}
    for component in (c for vector in vectors for c in vector.components if c.weight != 0):
        found.setdefault(unit_of(component.metric), {})[component.metric] = None
        names.setdefault(component.metric, component.name)
    if len(found) > 1:
        parts = ", ".join(f"{metric} ({names[metric]})" for metrics in found.values() for metric in list(metrics)[:1])
        say(
            f"scalar and gain add unlike units: {parts}; the largest decides them. gain_standardized adds standard deviations"
        )


def print_caveats(vectors: Sequence[RewardVector]) -> None:
    """Print the caveat of each component once, on stderr."""
    found = {c.name: c.detail["caveat"] for vector in vectors for c in vector.components if "caveat" in c.detail}
    for name, caveat in found.items():
        say(f"{name}: {visible(str(caveat))}")


def incomplete(vectors: Sequence[RewardVector]) -> int:
    """The exit code: 0 when every vector is complete, 8 when some are failed or partial, naming each on stderr."""
    broken = [vector for vector in vectors if vector.status != "ok"]
    where: dict[str, list[str]] = {}
    for vector in broken:
        reasons = dict.fromkeys(component.reason for component in vector.components if component.reason)
        why = "; ".join(reason for reason in reasons if reason) or "not every pair was scored"
        where.setdefault(f"{vector.status}: {why}", []).append(label(vector))
    print_grouped(where)
    return EXIT_INCOMPLETE if broken else EXIT_OK


def print_warnings(vectors: Sequence[RewardVector]) -> None:
    """Print the vectors' warnings, each once with its places, except those that every running feed begins with."""
    where: dict[str, list[str]] = {}
    for vector in vectors:
        for warning in telling(vector):
            where.setdefault(warning, []).append(label(vector))
    print_grouped(where)


def print_grouped(where: Mapping[str, Sequence[str]]) -> None:
    """One line per message on stderr: its first place, how many more there are, and the message."""
    for message, places in where.items():
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        say(f"{places[0]}{more}: {visible(message)}")
