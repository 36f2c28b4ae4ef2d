"""One simulation for display: its messages turn by turn, and its verdict. Makes renderables; prints nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from harness.cli.visible import cut, visible, visible_lines
from harness.core.tau2.fault import Fault
from harness.core.tau2.message import Message, ToolCall
from harness.core.tau2.simulation import Simulation, Unreadable
from harness.core.tau2.task import REWARD_TYPES, Task
from harness.reward_models.tau2.scenario import scenario_text
from harness.tau2.recordings.checks import Check
from harness.tau2.recordings.rescore import Rescored

COLOURS = {"assistant": "cyan", "user": "green", "tool": "dim", "system": "magenta"}
NAMES = {"assistant": "agent", "user": "user", "system": "system"}
CALLS_SHOWN = 50
"""Calls shown of one message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownLengths:
    """Characters shown of a message, of a tool's answer, of a call's arguments, and of what was thought."""

    message: int
    answer: int
    arguments: int
    thought: int


SHORT = ShownLengths(message=4_000, answer=600, arguments=1_000, thought=80)
FULL = ShownLengths(message=10**9, answer=10**9, arguments=10**9, thought=10**9)


def _indented(text: Text, by: int) -> Padding:
    """Wrapped lines are indented as well; nothing is filled up on the right."""
    return Padding(text, (0, 0, 0, by), expand=False)


def transcript(simulation: Simulation, fault: Fault | None, limits: ShownLengths) -> Iterator[RenderableType]:
    """The messages in order; calls and answers are indented, the user's marked, and the turn of the fault as well."""
    for turn, message in enumerate(simulation.messages):
        yield from _message(turn, message, limits)
        if fault is not None and fault.turn == turn:
            mark = Text(visible(f"^ turn {turn}: {fault.cause} at fault: {fault.words}"), style="bold red")
            yield _indented(mark, 4)


def _message(turn: int, message: Message, limits: ShownLengths) -> Iterator[RenderableType]:
    if message.role == "tool":
        what = ("error" if message.error else "answer") + (" to the user" if message.requestor == "user" else "")
        text = Text(f"{turn:>3} {what}: ", style="red" if message.error else "dim")
        text.append(visible_lines(cut(message.content or "", limits.answer)))
        yield _indented(text, 8)
        return
    head = Text(f"{turn:>3} {NAMES[message.role]}", style=f"bold {COLOURS[message.role]}")
    yield head
    if message.reasoning:
        lines = visible_lines if len(message.reasoning) <= limits.thought or limits is FULL else visible
        yield _indented(Text(f"thought: {lines(cut(message.reasoning, limits.thought))}", style="dim italic"), 4)
    if message.text:
        yield _indented(Text(visible_lines(cut(message.text, limits.message))), 4)
    elif not message.tool_calls:
        yield _indented(Text("(empty)", style="red"), 4)
    calls = message.tool_calls or ()
    for call in calls[:CALLS_SHOWN]:
        yield _indented(_call(call, limits), 8)
    if len(calls) > CALLS_SHOWN:
        yield _indented(Text(f"and {len(calls) - CALLS_SHOWN:,} more calls"), 8)


def _call(call: ToolCall, limits: ShownLengths) -> Text:
    try:
        arguments = json.dumps(call.arguments, ensure_ascii=False)
    except (ValueError, RecursionError) as error:
        arguments = f"({error})"
    text = Text("user calls " if call.requestor == "user" else "calls ", style=COLOURS[call.requestor])
    text.append(visible(cut(call.name, limits.arguments)), style="bold")
    return text.append(f" {visible(cut(arguments, limits.arguments))}")


def verdict(
    simulation: Simulation | Unreadable,
    task: Task | None,
    now: Rescored | None,
    limits: ShownLengths,
    *,
    unmet: Sequence[Check] = (),
    records: Sequence[str] = (),
) -> RenderableType:
    """What is shown next to the transcript: how it ended, reward, components, fault, failed checks, scenario.

    `unmet`: checks that were not met; `records`: what differs at the end, a sentence each.
    """
    lines = [_row("task", simulation.task_id), _row("simulation", simulation.id)]
    if isinstance(simulation, Simulation):
        trial = "-" if simulation.trial is None else str(simulation.trial)
        lines += [_row("trial", trial), _row("ended by", simulation.termination_reason)]
        lines.append(_row("messages", str(len(simulation.messages))))
    lines.append(_row("recorded", _value(simulation.recorded.reward)))
    if now is not None:
        lines.append(_row("reward", _value(now.verdict.reward), bold=True))
        if now.verdict.reason:
            lines.append(_row("", now.verdict.reason))
    lines += _components(simulation, now)
    if now is not None and now.fault is not None:
        where = "" if now.fault.turn is None else f", turn {now.fault.turn}"
        lines.append(_row("fault", f"{now.fault.cause} ({now.fault.rule}{where})", bold=True))
        lines.append(_row("", now.fault.words))
    for title, words in (
        ("not met", [f"{one.component}: {one.asked}{f' ({one.said})' if one.said else ''}" for one in unmet]),
        ("records that differ at the end", records),
    ):
        if words:
            lines.append(Text(title, style="dim"))
            lines += [Text(f"  {visible(cut(one, limits.answer))}", style="red") for one in words]
    scenario = scenario_text(task).strip() if task is not None else ""
    if scenario:
        lines.append(Text("scenario", style="dim"))
        lines.append(Text(visible_lines(cut(scenario, limits.answer)), style="italic"))
    return Group(*lines)


def _components(simulation: Simulation | Unreadable, now: Rescored | None) -> list[Text]:
    """One line per component that has a value; those that gate the reward are marked."""
    lines = []
    for name in REWARD_TYPES:
        values = now.verdict.components if now is not None else simulation.recorded.components
        value = values.get(name)
        gates = now is not None and name in now.verdict.basis
        if value is not None or gates:
            style = "" if value is None else ("green" if value == 1 else "red")
            lines.append(_row(f"  {name}", f"{_value(value)}{' gates' if gates else ''}", style=style))
    return lines


def _row(name: str, value: str, *, bold: bool = False, style: str = "") -> Text:
    text = Text(f"{name:<16}", style="dim")
    return text.append(visible(value), style="bold" if bold else style)


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
