"""The common part of domains over files: tasks and splits, checks, end states. Knows no domain's tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NoReturn

from harness.core.errors import DataError
from harness.core.tau2.end_state import EndState
from harness.core.tau2.message import Message
from harness.core.tau2.task import Task
from harness.core.tau2.upstream import OURS, Upstream
from harness.tasks.tau2.check import check_tasks
from harness.tasks.tau2.differing import Differing
from harness.tasks.tau2.end import EndStates
from harness.tasks.tau2.environment import Environment
from harness.tasks.tau2.files import DomainFiles
from harness.tasks.tau2.task_file import parse_tasks, read_tasks
from harness.tasks.tau2.tool import Tool


class BaseDomain:
    """A domain over files. Subclasses have tools, `policy` and `environment`."""

    name: str
    tools: Mapping[str, Tool]
    user_tools: Mapping[str, Tool]
    retrieving: Sequence[str] = ()

    def __init__(
        self, files: DomainFiles, *, source: str, tasks_file: Path | None = None, upstream: Upstream = OURS
    ) -> None:
        self.files = files
        self.source = source
        self.data = files.data
        self.upstream = upstream
        self._tasks_file = tasks_file
        self._end_states = self._make_end_states()

    def _make_end_states(self) -> EndStates:
        return EndStates(lambda solo, _: self.environment(solo=solo))

    def environment(self, *, solo: bool = False, task: Task | None = None) -> Environment:
        """A fresh environment."""
        raise TypeError(f"{type(self).__name__} has no environment")

    def no_solo(self) -> NoReturn:
        """Raises DataError: only telecom and mock have a solo mode."""
        raise DataError(f"domain {self.name} has no solo mode; telecom and mock have one")

    @cached_property
    def _tasks(self) -> Sequence[Task]:
        if self._tasks_file is not None:
            return tuple(read_tasks(self._tasks_file))
        path = self.files.need("tasks.json")
        return tuple(parse_tasks(self.files.json("tasks.json"), str(path)))

    @cached_property
    def databases(self) -> str | None:
        """Digest of the data folder's own databases; None where they are those of `source`."""
        return self.files.databases()

    def splits(self) -> Mapping[str, Sequence[str]]:
        """Split name to task ids. Raises DataError."""
        found = self.files.json("split_tasks.json")
        if not isinstance(found, dict):
            raise DataError(f"{self.files.find('split_tasks.json')}: expected a JSON object of splits")
        return found

    def tasks(self, split: str | None = None) -> Sequence[Task]:
        """The tasks of a split; all where none is named. Raises DataError."""
        if split is None:
            return self._tasks
        splits = self.splits()
        if split not in splits:
            raise DataError(f"domain {self.name} has no split {split!r}; it has {', '.join(splits)}")
        wanted = set(splits[split])
        return tuple(task for task in self._tasks if task.id in wanted)

    def check(self, tasks: Sequence[Task]) -> None:
        """Raises DataError for a task that names a tool or a function that does not exist."""
        check_tasks(tasks, self.name, self.environment())

    def end_state(self, task: Task, messages: Sequence[Message], *, solo: bool = False) -> EndState:
        """Replay a recorded simulation. Raises TranscriptError, or whatever an assertion raises."""
        return self._end_states(task, messages, solo=solo)

    def differing(self, task: Task, messages: Sequence[Message], *, solo: bool = False) -> Sequence[Differing]:
        """The fields in which the databases at the end differ from those after the reference actions. Raises as `end_state`."""
        return self._end_states.differing(task, messages, solo=solo)
