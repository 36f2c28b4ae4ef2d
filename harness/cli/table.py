"""Reward vectors as a table, `value ± stderr` as lm-eval prints it, and the exit code they mean. Writes to stdout."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from harness.cli.visible import visible
from harness.core.errors import EXIT_INCOMPLETE, EXIT_OK
from harness.core.vector import ComponentRecord, RewardVector
from harness.reward_models.component_comparison import WORDS, Word, verdict
from harness.reward_models.interval import beyond
from harness.reward_models.reference import label
from harness.tasks.suites.choices import KINDS

PIPE_WIDTH = 10_000
"""Columns when nobody looks: tables are not wrapped in files."""
STEPS_SHOWN = 12
"""Trajectories whose last step is told in words."""


def stdout() -> Console:
    """A console for results, made when it is needed so that redirection is seen.

    A character that the terminal's encoding lacks is replaced: a run of hours must not end in an error at its table.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    console = Console(markup=False, emoji=False)
    return console if console.is_terminal else Console(markup=False, emoji=False, width=PIPE_WIDTH)


def cell(component: ComponentRecord) -> str:
    """`-2.5312 ± 0.0131`; a mark where not every pair was scored, `!` at an alarm; the status where nothing was."""
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
    """`+0.1858 ± 0.0094*`; the mark where it is beyond its error, a dash where there is no gain."""
    if vector.gain is None or vector.gain_stderr is None:
        return number(vector.gain, sign=True)
    mark = "*" if beyond(vector.gain, vector.gain_stderr, vector.gain_df) else ""
    return f"{vector.gain:+.4f} ± {vector.gain_stderr:.4f}{mark}"


def summary_line(vector: RewardVector) -> str:
    """One vector in one line."""
    parts = ", ".join(f"{component.name} {cell(component)}" for component in vector.components)
    return f"{label(vector)}: {parts}, scalar {number(vector.scalar)}, gain {gain_cell(vector)}"


def print_vectors(vectors: Sequence[RewardVector]) -> None:
    """A row per vector, with a column per component of any of them."""
    names = list(dict.fromkeys(component.name for vector in vectors for component in vector.components))
    standardized = any(value is not None for vector in vectors for value in vector.standardized)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("trajectory", overflow="fold")
    table.add_column("step", justify="right")
    for name in names:
        table.add_column(name, justify="right")
        if standardized:
            table.add_column("z", justify="right")
    table.add_column("scalar", justify="right")
    table.add_column("gain", justify="right")
    for vector in vectors:
        components = {component.name: component for component in vector.components}
        row = [vector.trajectory, "-" if vector.step is None else str(vector.step)]
        for name in names:
            component = components.get(name)
            row.append("-" if component is None else cell(component))
            if standardized:
                row.append(
                    "-" if component is None or component.standardized is None else f"{component.standardized:+.2f}"
                )
        table.add_row(*row, number(vector.scalar), gain_cell(vector))
    console = stdout()
    if Measurement.get(console, console.options.update(width=PIPE_WIDTH), table).maximum <= console.width:
        console.print(table)
    else:
        for vector in vectors:  # a table squeezed into a narrow terminal would lose its digits
            console.print(summary_line(vector), soft_wrap=True)
    print_steps(vectors)
    print_alarms(vectors)
    print_unlike(vectors)
    print_caveats(vectors)


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
    """One line on stderr, as it is."""
    Console(stderr=True).print(words, markup=False, emoji=False, highlight=False, soft_wrap=True)


def step_words(vector: RewardVector) -> str:
    """What a step did to each component, where its change has an error: beyond it at 95%, or within."""
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
"""How the names of metrics begin that are shares of 1."""


def unit_of(metric: str) -> str:
    """What a metric's values are added as: shares are alike, whatever of."""
    return "share" if metric.startswith(SHARES) else metric


def print_unlike(vectors: Sequence[RewardVector]) -> None:
    """Say once, on stderr, that a scalar adds unlike units: the largest of them decides it."""
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
    """Say once, on stderr, what whoever reads a component has to know."""
    found = {c.name: c.detail["caveat"] for vector in vectors for c in vector.components if "caveat" in c.detail}
    for name, caveat in found.items():
        say(f"{name}: {visible(str(caveat))}")


def incomplete(vectors: Sequence[RewardVector]) -> int:
    """The exit code: 0 when every vector is whole, 8 when some are not, naming each on stderr."""
    broken = [vector for vector in vectors if vector.status != "ok"]
    where: dict[str, list[str]] = {}
    for vector in broken:
        reasons = dict.fromkeys(component.reason for component in vector.components if component.reason)
        why = "; ".join(reason for reason in reasons if reason) or "not every pair was scored"
        where.setdefault(f"{vector.status}: {why}", []).append(label(vector))
    print_grouped(where)
    return EXIT_INCOMPLETE if broken else EXIT_OK


def print_warnings(vectors: Sequence[RewardVector]) -> None:
    """What the vectors warn of, each warning once with the places it stands."""
    where: dict[str, list[str]] = {}
    for vector in vectors:
        for warning in vector.warnings:
            where.setdefault(warning, []).append(label(vector))
    print_grouped(where)


def print_grouped(where: Mapping[str, Sequence[str]]) -> None:
    """One line per message on stderr: its first place, how many more there are, and the message."""
    for message, places in where.items():
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        say(f"{places[0]}{more}: {visible(message)}")
