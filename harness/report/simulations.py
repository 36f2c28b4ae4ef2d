"""tau2 simulations as the page lists and shows them: verdict, cause, failed checks, transcript. Judges nothing.

A recording may contain anything: values of an unexpected type are ignored, and everything is text to the page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import DataError
from harness.report import numbers
from harness.report.keep import Keep
from harness.report.places import Standing
from harness.report.questions import Strings
from harness.report.records import Replays
from harness.report.source import SIMULATIONS, Simulated
from harness.reward_models.tau2.reward import SUCCESS
from harness.tasks.tau2.recording import read_raw
from harness.tau2.recordings.checks import checks, compact, text_of

MESSAGE, ANSWER, ARGUMENTS, WORDS = 4_000, 1_500, 1_000, 1_000
"""Characters shown of a message, a tool's answer, a call's arguments, and of messages about a verdict."""
TOLD, CALLED, THOUGHT, UNREADABLE = " told", " called", " thought", "unreadable"
"""Kinds of texts that are numbered separately, besides those of each role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Simulations of one file. `places`: the checkpoints that it belongs to (several for rows of `vary` whose variables are not in its
    texts); empty for a file that was given by itself.
    """

    name: str
    path: Path
    component: str | None = None
    places: tuple[int, ...] = ()

    @property
    def title(self) -> str:
        """Its name on the page."""
        return self.name if len(self.places) < 2 else f"{self.name} and {len(self.places) - 1} more"


def groups(places: Sequence[Standing], simulated: Sequence[Simulated]) -> list[Group]:
    """A group per file: of every tau2 component of every checkpoint, and of the files that were given."""
    found: dict[Path, Group] = {}
    for index, place in enumerate(places):
        for component in place.vector.components:
            files = component.detail.get("files")
            for name in files if component.kind == "tau2" and isinstance(files, list) else ():
                path = (place.run.folder / str(name)).parent
                known = found.get(path)
                found[path] = Group(
                    name=known.name if known else f"{component.name} of {place.label}",
                    path=path,
                    component=component.name,
                    places=(*(known.places if known else ()), index),
                )
    return [*found.values(), *(Group(name=one.label, path=one.path) for one in simulated)]


class Simulations:
    """Every simulation of some groups, read once: what the page lists, and as many transcripts as are asked for."""

    def __init__(self, of: Sequence[Group], *, keep: Keep) -> None:
        """Raises DataError for a given file that cannot be read."""
        self._groups = of
        self._lines: list[tuple[int, Mapping[str, Any]]] = []
        self._notes: list[str] = []
        for index, group in enumerate(of):
            try:
                self._lines += [(index, line) for line in lines_of(group.path)]
            except DataError as error:
                if not group.places:
                    raise
                self._notes.append(f"{group.name}: {error}")
        self._rewards = [number_of(_mapping(line.get("reward_info")).get("reward")) for _, line in self._lines]
        solved = [succeeded(reward) for reward in self._rewards]
        wanted = [row for row in range(len(solved)) if keep is Keep.ALL or not solved[row]]
        self.wanted: list[int] = [] if keep is Keep.NONE else sorted(wanted, key=solved.__getitem__)
        """Rows whose transcript is to be kept, failures first."""

    def listed(self) -> dict[str, Any]:
        """Verdict, cause and checks of every simulation."""
        strings = Strings()
        replays = [Replays(group.path) for group in self._groups]
        made = []
        for (index, line), reward in zip(self._lines, self._rewards, strict=True):
            one = _simulation(line, index, reward, strings)
            if reward is not None and not succeeded(reward):
                _explained(one, line, replays[index], strings)
            made.append(one)
        notes = [
            f"{group.name}: which records differ is not known here ({replay.why_not})"
            for group, replay in zip(self._groups, replays, strict=True)
            if replay.why_not
        ]
        return {
            "groups": [{"name": one.title, "component": one.component, "places": one.places} for one in self._groups],
            "all": made,
            "strings": strings.all,
            "notes": [*self._notes, *notes],
        }

    def transcripts(self, *, at_most: int) -> dict[str, Any]:
        """The first `at_most` transcripts: (number of the simulation, scenario of its user, messages) each.

        A text is a number in `texts` of its author. Simulations of one task are adjacent, which compresses better.
        """
        texts: dict[str, Strings] = {}
        rows = sorted(self.wanted[:at_most], key=lambda row: (str(self._lines[row][1].get("task_id")), row))
        told = texts.setdefault(TOLD, Strings())
        shown = [
            [
                row,
                told.number(scenario_of(self._lines[row][1].get("task")), MESSAGE),
                list(_messages(self._lines[row][1].get("messages"), texts)),
            ]
            for row in rows
        ]
        return {"shown": shown, "texts": {who: strings.all for who, strings in texts.items()}}


def succeeded(reward: float | None) -> bool:
    """Whether the reward is full."""
    return reward is not None and reward >= SUCCESS


def lines_of(path: Path) -> Iterator[Mapping[str, Any]]:
    """The simulations of a folder or file, each once; in one of our folders also those without a reward. Raises DataError."""
    named: list[tuple[str, Any]] = []
    if path.is_file():
        named = list(read_raw(path).simulations)
    else:
        seen: set[tuple[str, Any]] = set()
        for name in SIMULATIONS:
            one = path / name
            if not one.exists() or not one.stat().st_size:
                continue
            if not _committed(one):  # the first line is still being written
                continue
            read = list(read_raw(one).simulations)
            last = {_key(value): row for row, (_, value) in enumerate(read) if isinstance(value, Mapping)}
            rows = [row for key, row in last.items() if key not in seen]
            seen |= last.keys()
            broken = [row for row, (_, value) in enumerate(read) if not isinstance(value, Mapping)]
            named += [read[row] for row in sorted([*rows, *broken])]
    for name, value in named:
        if isinstance(value, Mapping):
            yield value
        else:
            yield {
                "id": name,
                "task_id": "",
                "termination_reason": "unreadable",
                "reason": f"{name} cannot be read: {value}",
            }


def _committed(path: Path) -> bool:
    if path.suffix != ".jsonl":
        return True
    with path.open("rb") as stream:
        return stream.readline().endswith(b"\n")


def _key(line: Mapping[str, Any]) -> tuple[str, Any]:
    trial = line.get("trial")
    return str(line.get("task_id")), trial if isinstance(trial, int) else str(line.get("id"))


def _simulation(line: Mapping[str, Any], group: int, reward: float | None, strings: Strings) -> dict[str, Any]:
    info = _mapping(line.get("reward_info"))
    fault = _mapping(line.get("fault")) or _mapping(_mapping(info.get("info")).get("fault"))
    return {
        "group": group,
        "task": numbers.cut(str(line.get("task_id", "")), WORDS),
        "trial": line["trial"] if isinstance(line.get("trial"), int) else None,
        "reward": numbers.error(reward),
        "end": numbers.cut(str(line.get("termination_reason") or "not said"), WORDS),
        "n": len(line["messages"]) if isinstance(line.get("messages"), list) else 0,
        "reason": strings.number(line.get("reason"), WORDS),
        "fault": [
            numbers.cut(str(fault.get("cause")), WORDS),
            numbers.cut(str(fault.get("rule") or ""), WORDS),
            strings.number(fault.get("words"), WORDS),
            fault["turn"] if isinstance(fault.get("turn"), int) else None,
        ]
        if fault
        else None,
        "excluded": bool(line.get("excluded")),
        "parts": _parts(info),
        "basis": [str(name) for name in _list(info.get("reward_basis"))],
        "checks": [
            [kind, strings.number(what, WORDS), met, strings.number(said, WORDS)]
            for kind, what, met, said in checks(info)
        ],
    }


def _explained(one: dict[str, Any], line: Mapping[str, Any], replays: Replays, strings: Strings) -> None:
    """Add the cause of a failure where the file has none, and the records that differ from the reference."""
    if one["fault"] is None and (fault := replays.fault(line)) is not None:
        one["fault"] = [fault.cause, fault.rule, strings.number(fault.words, WORDS), fault.turn]
        one["replayed"] = True
    if one["parts"].get("DB") == 0.0:
        one["records"] = [strings.number(words, WORDS) for words in replays.records(line)]


def _parts(info: Mapping[str, Any]) -> dict[str, float]:
    found = {str(name): number_of(part) for name, part in _mapping(info.get("reward_breakdown")).items()}
    database = number_of(_mapping(info.get("db_check")).get("db_reward"))
    if database is not None:
        found.setdefault("DB", database)
    return {name: part for name, part in found.items() if part is not None}


def _messages(messages: Any, texts: dict[str, Strings]) -> Iterator[list[Any]]:
    """(role, whether the user's, text, calls, error) of each message in order, and its reasoning where it has any; anything else is shown
    as `no message`.
    """

    def number(who: str, text: Any, limit: int) -> int:
        return texts.setdefault(who, Strings()).number(text, limit)

    for message in _list(messages):
        if not isinstance(message, Mapping):
            yield [UNREADABLE, 0, number(UNREADABLE, f"no message: {compact(message)}", MESSAGE), [], 0]
            continue
        role = numbers.cut(str(message.get("role")), 40)
        limit = ANSWER if role == "tool" else MESSAGE
        calls = [
            [
                numbers.cut(str(_mapping(call).get("name")), ARGUMENTS),
                number(CALLED, compact(_mapping(call).get("arguments")), ARGUMENTS),
                int(_mapping(call).get("requestor") == "user"),
            ]
            for call in _list(message.get("tool_calls"))[:50]
        ]
        thought = text_of(message.get("reasoning_content"))
        yield [
            role,
            int(message.get("requestor") == "user"),
            number(role, text_of(message.get("content")), limit),
            calls,
            int(message.get("error") is True),
            *([number(THOUGHT, thought, MESSAGE)] if thought else []),
        ]


def scenario_of(task: Any) -> str:
    """All instructions of a task's simulated user, as one text."""
    scenario = _mapping(_mapping(task).get("user_scenario"))
    try:
        return "\n".join(_texts([scenario.get("persona"), scenario.get("instructions"), _mapping(task).get("ticket")]))
    except RecursionError:
        return ""


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = [text for key, text in value.items() if key != "domain"]
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def number_of(value: Any) -> float | None:
    """The value as a float; None unless it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
