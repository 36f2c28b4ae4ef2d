"""Tasks as JSON, in upstream's format, and the revision that says which tasks they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from harness.core.digest import digest_json
from harness.core.errors import DataError
from harness.core.tau2.task import REWARD_TYPES, Task
from harness.tasks.tau2.files import read_json


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Task)


def parse_tasks(values: Any, where: str) -> list[Task]:
    """Tasks from JSON values. Raises DataError for one that is malformed, of unknown reward type, or there twice."""
    from pydantic import ValidationError

    if not isinstance(values, list):
        raise DataError(f"{where}: expected a JSON array of tasks, found {type(values).__name__}")
    tasks: list[Task] = []
    seen: set[str] = set()
    for number, value in enumerate(values, start=1):
        name = f"task {value['id']!r}" if isinstance(value, dict) and "id" in value else f"task {number}"
        _check_basis(value, f"{where}: {name}")
        try:
            task = _adapter().validate_python(value)
        except (ValidationError, RecursionError) as error:
            raise DataError(f"{where}: {name}: {_first(error)}; correct the task") from error
        if task.id in seen:
            raise DataError(f"{where}: {name} is there twice; task ids must be unique")
        seen.add(task.id)
        tasks.append(replace(task, written=value))
    return tasks


def _check_basis(value: Any, where: str) -> None:
    criteria = value.get("evaluation_criteria") if isinstance(value, dict) else None
    basis = criteria.get("reward_basis") if isinstance(criteria, dict) else None
    for name in basis if isinstance(basis, list) else ():
        if name not in REWARD_TYPES:
            raise DataError(f"{where}: unknown reward type {name!r}; known are {', '.join(sorted(REWARD_TYPES))}")


def _first(error: Exception) -> str:
    problems = getattr(error, "errors", None)
    if problems is None:
        return str(error)
    problem = problems()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"


def read_tasks(path: Path) -> list[Task]:
    """A task file, or a folder with a file for each task. Raises DataError."""
    if not path.is_dir():
        return parse_tasks(read_json(path), str(path))
    files = sorted(path.glob("*.json"))
    if not files:
        raise DataError(f"{path}: no task in it; name a folder with a JSON file for each, or one file with all")
    return parse_tasks([read_json(file) for file in files], str(path))


def task_value(task: Task) -> dict[str, Any]:
    """A task's JSON value as in its file; of a task that was made here, in upstream's format without null values."""
    if task.written is not None:
        return dict(task.written)
    return dict(_adapter().dump_python(task, mode="json", exclude_none=True))


def revision(tasks: Sequence[Task]) -> str:
    """A digest over the tasks and how they are judged, independent of order and formatting."""
    return digest_json([_meaning(task) for task in sorted(tasks, key=lambda task: task.id)])


def _meaning(task: Task) -> dict[str, Any]:
    value: dict[str, Any] = _adapter().dump_python(task, mode="json", exclude={"written"})
    if task.user_tools is None:
        del value["user_tools"]  # a later key: tasks without it keep their digest
    return value
