"""Converts recorded simulations from our JSON lines to upstream's results format and back. Those that upstream cannot load are named.

A line is a simulation with upstream's keys and `domain`, `task` and `solo`; the first line has upstream's `info` too (`run_info`), so
that nothing is lost in converting back. In a run's own file every line has it, without the long texts.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import DataError, SpecError
from harness.tasks.tau2.recording import Raw, is_document_info, read_raw
from harness.tasks.tau2.sources import open_domain
from harness.tasks.tau2.task_file import parse_tasks, task_value
from harness.tau2.recordings.run_info import whole_info
from harness.tau2.recordings.upstream_format import UNKNOWN_TIME, completed, info_value
from harness.tau2.recordings.upstream_models import problem

LINES = (".jsonl", ".jsonl.gz")
RESULTS = (".json", ".json.gz")
OF_LINES = ("domain", "task", "solo", "run_info", "run_timestamp", "task_revision", "source")
"""Keys of a line that upstream stores elsewhere, or not at all."""
OF_RUNS = ("reason", "usage", "fault", "excluded", "review_failure")
"""Keys of a run's line that upstream does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """The content of the new file, the number of its simulations, and those left out: name and reason."""

    content: bytes
    n: int
    left_out: tuple[tuple[str, str], ...]


def convert(path: Path, out: Path, *, domain: str | None = None, data: Path | None = None) -> Converted:
    """The content for `out`, whose suffix decides the format. Raises DataError or SpecError."""
    if not out.name.endswith((*LINES, *RESULTS)):
        raise SpecError(f"{out}: name it .jsonl for JSON lines or .json for upstream's results format (.gz compresses)")
    return written(read_raw(path), out, domain=domain, data=data)


def written(raw: Raw, out: Path, *, domain: str | None, data: Path | None) -> Converted:
    """A recording's values as the content for `out`. Raises DataError."""
    name = domain or raw.domain
    if not name:
        raise DataError(f"{raw.path} does not say which domain it is of; name it with `domain`")
    values, left_out = _readable(raw)
    tasks = _tasks(raw, name, values, data)
    if out.name.endswith(LINES):
        content = _as_lines(raw, name, tasks, values)
    else:
        values, refused = _loadable(values, tasks)
        left_out += refused
        content = _as_results(raw, name, tasks, values)
    packed = gzip.compress(content, mtime=0) if out.name.endswith(".gz") else content
    return Converted(content=packed, n=len(values), left_out=tuple(left_out))


Named = list[tuple[str, dict[str, Any]]]
Refused = list[tuple[str, str]]


def _readable(raw: Raw) -> tuple[Named, Refused]:
    values: Named = []
    refused: Refused = []
    for name, value in raw.simulations:
        if isinstance(value, dict):
            values.append((str(value.get("id") or name), value))
        else:
            refused.append((name, str(value) if isinstance(value, Exception) else "it is no JSON object"))
    return values, refused


def _loadable(values: Named, tasks: Mapping[str, Any]) -> tuple[Named, Refused]:
    """The simulations that upstream loads, and why it would not load the others."""
    kept: Named = []
    refused: Refused = []
    for name, value in values:
        made = completed(_of_upstream(value))
        wrong = problem(made)
        if wrong is None and made["task_id"] not in tasks:
            wrong = f"no task {made['task_id']!r} is known; name a folder that has it with `data`"
        if wrong is None:
            kept.append((name, made))
        else:
            refused.append((name, wrong))
    return kept, refused


def _of_upstream(value: Mapping[str, Any]) -> dict[str, Any]:
    """A line's value with the keys of upstream's record of a simulation only."""
    ours = "excluded" in value and "usage" in value
    left = {*OF_LINES, *(OF_RUNS if ours else ())}
    if is_document_info(value.get("info")):
        left.add("info")  # lines once had the document's under this name, which upstream has for a simulation's
    made = {key: item for key, item in value.items() if key not in left}
    info = made.get("reward_info")
    if ours and isinstance(info, Mapping) and isinstance(info.get("reward_breakdown"), Mapping):
        basis = info.get("reward_basis") or ()
        gates = {name: gate for name, gate in info["reward_breakdown"].items() if name in basis}
        made["reward_info"] = {**info, "reward_breakdown": gates, "reward_basis": list(basis) or None}
    return made


def _tasks(raw: Raw, domain: str, values: Named, data: Path | None) -> dict[str, Any]:
    """The tasks as JSON values: the recording's, else those of the domain that the simulations are of."""
    if raw.tasks:
        parse_tasks(raw.tasks, str(raw.path))
        return {task["id"]: task for task in raw.tasks}
    used = {value.get("task_id") for _, value in values}
    known = open_domain(domain, data=data).tasks()
    return {task.id: task_value(task) for task in known if task.id in used}


def _as_lines(raw: Raw, domain: str, tasks: Mapping[str, Any], values: Named) -> bytes:
    lines = []
    for number, (_, value) in enumerate(values):
        line = {**value, "domain": domain, "solo": raw.solo}
        task = tasks.get(str(value.get("task_id")))
        if task is not None:
            line["task"] = task
        if raw.task_revision is not None:
            line["task_revision"] = raw.task_revision
        if number == 0 and raw.info:
            line["run_info"] = dict(raw.info)
        if number == 0 and raw.timestamp:
            line["run_timestamp"] = raw.timestamp
        lines.append(json.dumps(line))
    return "".join(f"{line}\n" for line in lines).encode()


def _as_results(raw: Raw, domain: str, tasks: Mapping[str, Any], values: Named) -> bytes:
    simulations: Sequence[Mapping[str, Any]] = [value for _, value in values]
    trials = max((value.get("trial") or 0 for value in simulations), default=0) + 1
    if raw.info:
        info = whole_info(raw.info, trials=trials, folder=raw.path.parent)
    else:
        info = info_value(domain, solo=raw.solo, trials=trials)
    timestamp = raw.timestamp or min((str(value["timestamp"]) for value in simulations), default=UNKNOWN_TIME)
    document = {"timestamp": timestamp, "info": info, "tasks": list(tasks.values()), "simulations": simulations}
    return json.dumps(document, indent=2).encode()
