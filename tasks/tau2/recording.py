"""Recorded simulations in a file: upstream's results format (a document or a folder), or ours (JSON lines); gzipped or not.

A file of another shape is a DataError. A single simulation that cannot be read becomes an Unreadable. Knows nothing of
domains and verdicts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

from harness.core.errors import DataError
from harness.core.tau2.message import Message
from harness.core.tau2.simulation import Recorded, Simulation, Termination, Unreadable
from harness.core.tau2.task import REWARD_TYPES, RewardType, Task
from harness.tasks.tau2.checks import recorded_checks
from harness.tasks.tau2.document import load_document
from harness.tasks.tau2.files import read_bytes
from harness.tasks.tau2.no_recording import FORMATS, VOICE, is_simulation, is_voice, is_voice_run, of_array
from harness.tasks.tau2.task_file import parse_tasks

IN_FOLDER = ("results.json", "simulations.jsonl")
"""The file with a folder's simulations: upstream's, ours."""
BESIDE = "simulations"
"""In upstream's directory format the simulations lie in this folder, one to a file, and results.json has the rest."""

ENDS = (*get_args(Termination), "context_window_exceeded")
"""Upstream's termination reasons; `Termination` has no name for the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """The content of one file as JSON values, whichever format it has.

    `simulations` are (name, value): its name in messages, and the value or, where it is not valid JSON, the exception. `info`
    is upstream's, empty in JSON lines without it. `task_revision` is the one in the lines, None without any.
    """

    path: Path
    domain: str | None
    solo: bool
    info: Mapping[str, Any]
    tasks: list[Any] | None
    simulations: tuple[tuple[str, Any], ...]
    timestamp: str | None = None
    task_revision: str | None = None
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The simulations of one file. `tasks` and `domain` are None where the file does not have them.

    `sources`: the packages whose environments they were made with, as the file says.
    """

    path: Path
    domain: str | None
    solo: bool
    tasks: tuple[Task, ...] | None
    simulations: tuple[Simulation | Unreadable, ...]
    task_revision: str | None = None
    sources: tuple[str, ...] = ()


def read_recording(path: Path) -> Recording:
    """A file of recorded simulations. Raises DataError."""
    raw = read_raw(path)
    return Recording(
        path=raw.path,
        domain=raw.domain,
        solo=raw.solo,
        tasks=tuple(parse_tasks(raw.tasks, str(raw.path))) if raw.tasks else None,
        simulations=tuple(parse_simulation(value, name) for name, value in raw.simulations),
        task_revision=raw.task_revision,
        sources=raw.sources,
    )


def read_raw(path: Path) -> Raw:
    """A file of recorded simulations, its JSON values unparsed. Raises DataError."""
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        path = next((one for name in IN_FOLDER if (one := path / name).exists()), path / IN_FOLDER[0])
    content = read_bytes(path).removeprefix(b"\xef\xbb\xbf")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start}); expected {FORMATS}") from error
    if _is_lines(path, text):
        return _from_lines(path, text)
    document = load_document(text, str(path))
    if isinstance(document.rest, list):
        raise DataError(f"{path}: {of_array(document.rest)}")
    named = [(f"simulation {n}", value) for n, value in enumerate(document.simulations or (), start=1)]
    beside = folder / BESIDE
    if isinstance(document.rest, dict) and not named and beside.is_dir():
        named = list(_beside(beside, document.rest))
    if is_simulation(document.rest):
        raise DataError(f"{path}: a single simulation; name the folder that has it in {BESIDE}/, or write it as a line")
    if not isinstance(document.rest, dict) or (document.simulations is None and not beside.is_dir()):
        raise DataError(f"{path}: no simulations in it; expected {FORMATS}")
    if (named and all(is_voice(value) for _, value in named)) or is_voice_run(_mapping(document.rest.get("info"))):
        raise DataError(f"{path}: {VOICE}")
    info, timestamp = _mapping(document.rest.get("info")), document.rest.get("timestamp")
    return Raw(
        path=path,
        domain=_mapping(info.get("environment_info")).get("domain_name"),
        solo="solo" in str(_mapping(info.get("agent_info")).get("implementation", "")),
        info=info,
        tasks=document.rest.get("tasks") or None,
        simulations=tuple(named),
        timestamp=timestamp if isinstance(timestamp, str) else None,
    )


def _is_lines(path: Path, text: str) -> bool:
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return True
    try:
        first = json.loads(text.lstrip().partition("\n")[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and "simulations" not in first and "task_id" in first


def _beside(folder: Path, rest: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The simulations in upstream's folder of one file each, and an error for each that the index names and the folder lacks."""
    found = {path.name.removesuffix(".gz").removesuffix(".json"): path for path in folder.glob("*.json")}
    found.update({path.name.removesuffix(".json.gz"): path for path in folder.glob("*.json.gz")})
    for _, path in sorted(found.items()):
        name = f"{folder.name}/{path.name}"
        try:
            yield name, json.loads(read_bytes(path))
        except (ValueError, RecursionError, DataError) as error:
            yield name, error
    index = rest.get("simulation_index")
    for entry in index if isinstance(index, list) else ():
        identity = _mapping(entry).get("id")
        if isinstance(identity, str) and identity not in found:
            name = f"{folder.name}/{identity}.json"
            yield name, DataError(f"{name} is missing, which the index names; restore it")


def is_document_info(value: Any) -> bool:
    """Whether this is a document's `info`, and not the one of a single simulation."""
    return isinstance(value, Mapping) and "environment_info" in value


def _from_lines(path: Path, text: str) -> Raw:
    lines = text.split("\n")
    torn = len(lines) - 1 if lines[-1].strip() else None
    simulations: list[tuple[str, Any]] = []
    tasks: dict[str, Any] = {}
    domains: dict[str, None] = {}
    revisions: dict[str, None] = {}
    sources: dict[str, None] = {}
    info: Mapping[str, Any] = {}
    timestamp: str | None = None
    solo = False
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        name = f"line {index + 1}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            if index != torn:
                simulations.append((name, error))
            continue
        simulations.append((name, value))
        if isinstance(value, dict):
            if isinstance(value.get("domain"), str):
                domains[value["domain"]] = None
            info = info or _info(value)
            if timestamp is None and isinstance(value.get("run_timestamp"), str):
                timestamp = value["run_timestamp"]
            if isinstance(value.get("task_revision"), str):
                revisions[value["task_revision"]] = None
            if isinstance(value.get("source"), str):
                sources[value["source"]] = None
            task = value.get("task")
            if isinstance(task, dict) and "id" in task:
                known = tasks.setdefault(str(task["id"]), task)
                if known != task and not _same_task(known, task):
                    raise DataError(
                        f"{path} {name}: task {task['id']!r} is not the one of an earlier line; split the file"
                    )
                tasks[str(task["id"])] = max(known, task, key=len)  # older lines lack keys that are not read here
            solo = solo or value.get("solo") is True
    for what, found in (("domains", domains), ("task revisions", revisions)):
        if len(found) > 1:
            raise DataError(f"{path}: simulations of several {what} ({', '.join(found)}); give one file for each")
    if not simulations:
        raise DataError(f"{path}: no simulations in it; expected {FORMATS}")
    if len(simulations) == 1 and isinstance(simulations[0][1], list):
        raise DataError(f"{path}: {of_array(simulations[0][1])}")
    if all(is_voice(value) for _, value in simulations):
        raise DataError(f"{path}: {VOICE}")
    return Raw(
        path=path,
        domain=next(iter(domains), None),
        solo=solo,
        info=info,
        tasks=list(tasks.values()) or None,
        simulations=tuple(simulations),
        timestamp=timestamp,
        task_revision=next(iter(revisions), None),
        sources=tuple(sources),
    )


def _info(line: Mapping[str, Any]) -> Mapping[str, Any]:
    """The document's `info` in a line: `run_info`, or `info` in a line of an earlier version."""
    found = line.get("run_info")
    if isinstance(found, Mapping):
        return found
    return _mapping(line.get("info")) if is_document_info(line.get("info")) else {}


def _same_task(one: Any, other: Any) -> bool:
    """Whether two tasks mean the same, whatever else their files say."""
    try:
        return parse_tasks([one], "") == parse_tasks([other], "")
    except DataError:
        return False


@cache
def _messages() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(tuple[Message, ...])


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def parse_simulation(value: Any, name: str) -> Simulation | Unreadable:
    """One simulation from its JSON value; `name` is used where it has no id."""
    if isinstance(value, DataError):
        return Unreadable(id=name, task_id="", reason=str(value))
    if isinstance(value, Exception):
        return Unreadable(id=name, task_id="", reason=f"not valid JSON ({value})")
    if not isinstance(value, dict):
        return Unreadable(id=name, task_id="", reason=f"expected a JSON object, found {type(value).__name__}")
    identity = identity_of(value, name)
    task_id = value["task_id"] if isinstance(value.get("task_id"), str) else ""
    recorded = _recorded(_mapping(value.get("reward_info")))
    if is_voice(value):
        return Unreadable(id=identity, task_id=task_id, reason=VOICE, recorded=recorded)
    try:
        if not task_id or not isinstance(value.get("termination_reason"), str):
            raise ValueError("task_id or termination_reason is missing or no text")
        return Simulation(
            id=identity,
            task_id=task_id,
            termination_reason=_end(value["termination_reason"]),
            messages=_messages().validate_python(tuple(_flat(value.get("messages")))),
            trial=_trial(value.get("trial")),
            recorded=recorded,
            review=value["review"] if isinstance(value.get("review"), dict) else None,
        )
    except (ValueError, RecursionError) as error:
        return Unreadable(id=identity, task_id=task_id, reason=_first(error), recorded=recorded)


def identity_of(value: Mapping[str, Any], name: str) -> str:
    """The id of a simulation, which may be a number; `name` where it has none."""
    identity = value.get("id")
    return str(identity) if isinstance(identity, str | int) and not isinstance(identity, bool) else name


def _trial(value: Any) -> int | None:
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _end(value: str) -> str:
    """The termination reason, also as Python prints upstream's enumeration. Raises ValueError for an unknown one, which would
    count as a reward of 0."""
    word = value.rpartition(".")[2].lower()
    if word not in ENDS:
        raise ValueError(f"termination_reason {value!r} is none of {', '.join(ENDS)}")
    return word


def _flat(messages: Any) -> Iterator[Any]:
    """The messages, with a message of several tool answers split into one each."""
    if not isinstance(messages, list):
        raise ValueError("messages is missing or no array")
    for message in messages:
        several = message.get("tool_messages") if isinstance(message, dict) else None
        if isinstance(several, list):
            yield from several
        elif isinstance(message, dict):
            thought = message.get("reasoning_content")
            yield {**message, "reasoning": thought if isinstance(thought, str) else None, "written": None}
        else:
            yield message


def _first(error: Exception) -> str:
    problems = getattr(error, "errors", None)
    if problems is None:
        return str(error)
    problem = problems()[0]
    return f"messages.{'.'.join(map(str, problem['loc']))}: {problem['msg']}"


def _recorded(info: Mapping[str, Any]) -> Recorded:
    """The verdict in the file, with every component that it has a result for."""
    found: dict[RewardType, float] = {}
    checks: dict[RewardType, tuple[str, str]] = {
        "ENV_ASSERTION": ("env_assertions", "met"),
        "ACTION": ("action_checks", "action_match"),
        "COMMUNICATE": ("communicate_checks", "met"),
        "NL_ASSERTION": ("nl_assertions", "met"),
    }
    for name, (key, flag) in checks.items():
        results = info.get(key)
        if isinstance(results, list) and results:
            found[name] = float(all(_mapping(result).get(flag) is True for result in results))
    database = _mapping(info.get("db_check")).get("db_reward")
    if isinstance(database, int | float):
        found["DB"] = float(database)
    breakdown = _mapping(info.get("reward_breakdown"))
    for name in REWARD_TYPES:
        if name not in found and isinstance(breakdown.get(name), int | float):
            found[name] = float(breakdown[name])
    reward = info.get("reward")
    return Recorded(
        reward=float(reward) if isinstance(reward, int | float) else None,
        components=found,
        checks=recorded_checks(info),
    )
