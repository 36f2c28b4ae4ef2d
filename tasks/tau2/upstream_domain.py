"""A domain of upstream's own package: its tasks, policy and environments behind our protocol.

Every simulation gets toolkits of its own over its own view or copy of the database; nothing of upstream's is shared.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any, get_args, get_origin

from harness.core.errors import DataError
from harness.core.tau2.end_state import EndState
from harness.core.tau2.message import Message
from harness.core.tau2.task import Task
from harness.core.tau2.upstream import OURS, Upstream
from harness.tasks.tau2 import upstream as package
from harness.tasks.tau2.banking import RETRIEVING
from harness.tasks.tau2.check import check_tasks
from harness.tasks.tau2.content import as_text
from harness.tasks.tau2.database import Database, Shared, Whole
from harness.tasks.tau2.differing import Differing
from harness.tasks.tau2.end import EndStates
from harness.tasks.tau2.environment import Environment
from harness.tasks.tau2.records import Table
from harness.tasks.tau2.task_file import parse_tasks, read_tasks
from harness.tasks.tau2.tool import Tool
from harness.tasks.tau2.toolkit import Toolkit

OFFLINE = "no_knowledge"
"""Upstream's retrieval variant without documents."""


class UpstreamDomain:
    """One of the registry's domains. `retrieval`: how banking_knowledge finds documents; None: upstream's default.

    `scoring`: only verdicts are needed, which depend on no document; upstream's default variant would need an API key.
    """

    databases = None

    def __init__(
        self,
        name: str,
        *,
        tasks_file: Path | None = None,
        upstream: Upstream = OURS,
        retrieval: str | None = None,
        scoring: bool = False,
    ) -> None:
        known = package.registry().get_domains()
        if name not in known:
            raise DataError(f"unknown tau2 domain {name!r}; the tau2 package that is installed has {', '.join(known)}")
        self.name = name
        self.data = package.data_folder()
        self.source = package.name_and_version() + (f", retrieval {retrieval}" if retrieval else "")
        self._tasks_file = tasks_file
        self._retrieval = retrieval
        self._constructor = package.registry().get_env_constructor(name)
        self._accepts = set(inspect.signature(self._constructor).parameters)
        if retrieval is not None and "retrieval_variant" not in self._accepts:
            raise DataError(f"domain {name} retrieves nothing, so `retrieval` {retrieval} has no meaning for it")
        retrieves = "retrieval_variant" in self._accepts
        self.retrieving: Sequence[str] = RETRIEVING if retrieves else ()
        if scoring and retrieves:
            self._retrieval = OFFLINE
        telecom = name.startswith("telecom")  # see telecom.py
        self._end_states = EndStates(
            lambda solo, task: self.environment(solo=solo, task=task),
            sync_reference=telecom and not upstream.telecom_db,
            diagnose_database=not telecom or upstream.telecom_db,
        )

    @cached_property
    def _first(self) -> Any:
        """An environment of upstream's for reading tools, policy and databases."""
        try:
            return self._made(self._fixed)
        except Exception as error:
            raise DataError(
                f"tau2-bench's domain {self.name} cannot be opened ({type(error).__name__}: {error})"
            ) from error

    def _made(self, settings: Mapping[str, Any]) -> Any:
        """An environment of upstream's. It prints while it is made, which must not get into our results on standard output."""
        with redirect_stdout(StringIO()):
            return self._constructor(**settings)

    @property
    def _fixed(self) -> dict[str, Any]:
        return {} if self._retrieval is None else {"retrieval_variant": self._retrieval}

    @cached_property
    def tools(self) -> Mapping[str, Tool]:
        """The agent's tools by name, with the discoverable ones."""
        return _tools(self._first.tools)

    @cached_property
    def user_tools(self) -> Mapping[str, Tool]:
        """The user's tools by name."""
        return {} if self._first.user_tools is None else _tools(self._first.user_tools)

    @cached_property
    def _database(self) -> Database:
        return _database(self._first.tools.db)

    @cached_property
    def _user_database(self) -> Database | None:
        """None where the user has no database, or works on the agent's."""
        user = self._first.user_tools
        if user is None or user.db is None or user.db is self._first.tools.db:
            return None
        return _database(user.db)

    @cached_property
    def _upstreams(self) -> Mapping[str, Any]:
        """Upstream's own records of its tasks by id."""
        registry = package.registry()
        whole = f"{self.name}_full"
        has_whole = whole in registry.get_task_sets()
        found = registry.get_tasks_loader(whole)() if has_whole else registry.get_tasks_loader(self.name)(None)
        return {task.id: task for task in found}

    @cached_property
    def _tasks(self) -> Sequence[Task]:
        if self._tasks_file is not None:
            return tuple(read_tasks(self._tasks_file))
        values = [task.model_dump(mode="json") for task in self._upstreams.values()]
        return tuple(parse_tasks(values, f"{self.source}, domain {self.name}"))

    def splits(self) -> Mapping[str, Sequence[str]]:
        """Split name to task ids; a domain without splits has all its tasks in `base`."""
        loader = package.registry().get_task_splits_loader(self.name)
        if loader is not None:
            return dict(loader())
        beside = package.data_folder() / "domains" / self.name / "split_tasks.json"
        if beside.is_file():
            from harness.tasks.tau2.files import read_json

            return dict(read_json(beside))
        return {"base": [task.id for task in self._tasks]}

    def tasks(self, split: str | None = None) -> Sequence[Task]:
        """The tasks of a split; all where none is named. Raises DataError."""
        if split is None:
            return self._tasks
        splits = self.splits()
        if split not in splits:
            raise DataError(f"domain {self.name} has no split {split!r}; it has {', '.join(splits)}")
        wanted = set(splits[split])
        return tuple(task for task in self._tasks if task.id in wanted)

    def policy(self, *, solo: bool = False) -> str:
        """The agent's policy as text. Raises DataError where the domain has no solo mode."""
        if not solo:
            return str(self._first.get_policy())
        try:
            return str(self._made({**self._fixed, "solo_mode": True}).get_policy())
        except Exception as error:
            raise DataError(f"domain {self.name} has no solo mode ({error}); telecom and mock have one") from error

    def environment(self, *, solo: bool = False, task: Task | None = None) -> Environment:
        """A fresh environment; some of banking_knowledge's depend on the task."""
        settings: dict[str, Any] = {**self._fixed, "db": self._database.open()}
        theirs = self._upstreams.get(task.id) if task is not None else None
        if theirs is not None:
            settings.update(package.setup_of(theirs))
        if self._user_database is not None:
            settings["user_db"] = self._user_database.open()
        if solo:
            settings["solo_mode"] = True
        made = self._made({name: value for name, value in settings.items() if name in self._accepts})
        for toolkit in filter(None, (made.tools, made.user_tools)):
            _keep_apart(toolkit)
        agent = Toolkit(target=made.tools, tools=self.tools, database=self._database)
        user = None
        if made.user_tools is not None:
            database = self._user_database or self._database
            user = Toolkit(target=made.user_tools, tools=self.user_tools, database=database)
        return Environment(agent=agent, user=user, sync=lambda _agent, _user: made.sync_tools(), solo=solo, text=_text)

    def check(self, tasks: Sequence[Task]) -> None:
        """Raises DataError for a task that names a tool or a function that does not exist."""
        check_tasks(tasks, self.name, self.environment())

    def end_state(self, task: Task, messages: Sequence[Message], *, solo: bool = False) -> EndState:
        """Replay a recorded simulation of a task. Raises TranscriptError, UnfitEnd, or whatever the task's own data raise."""
        return self._end_states(task, messages, solo=solo)

    def differing(self, task: Task, messages: Sequence[Message], *, solo: bool = False) -> Sequence[Differing]:
        """The fields in which the databases at the end differ from those after the reference actions. Raises as `end_state`."""
        return self._end_states.differing(task, messages, solo=solo)


def _keep_apart(toolkit: Any) -> None:
    """Give a toolkit its own copy of records that its class holds, which all simulations would share otherwise."""
    for kind in type(toolkit).__mro__:
        for name, value in vars(kind).items():
            if name not in vars(toolkit) and hasattr(value, "model_copy") and not isinstance(value, type):
                setattr(toolkit, name, value.model_copy(deep=True))


def _text(value: Any) -> str:
    """A tool's result as upstream shows it: text stays as it is, also where it is JSON."""
    return value if isinstance(value, str) else as_text(value)


def _tools(toolkit: Any) -> dict[str, Tool]:
    return {name: _tool(toolkit, name) for name in toolkit.tools}


def _tool(toolkit: Any, name: str) -> Tool:
    def run(target: Any, /, **arguments: Any) -> Any:
        return getattr(target, name)(**arguments)

    def ready() -> dict[str, Any]:
        schema: dict[str, Any] = toolkit.get_tools()[name].openai_schema
        return schema

    return Tool(
        name=name,
        changes_state=bool(toolkit.tool_mutates_state(name)),
        run=run,
        described=lambda: getattr(toolkit, name),
        ready=ready,
        shown=not getattr(toolkit, "is_discoverable", lambda _: False)(name),
    )


def _database(loaded: Any) -> Database:
    """Shared where all of it is tables of records, which tools access by key; else Whole, as it is small."""
    model = type(loaded)
    raw = loaded.model_dump(mode="json")
    kinds = {name: _record(field.annotation) for name, field in model.model_fields.items()}
    if all(kinds.values()):
        return Shared({name: Table(raw[name], kind.model_validate) for name, kind in kinds.items()})
    return Whole(raw, model)


def _record(annotation: Any) -> Any:
    """The record type of a table, `dict[str, Record]`; None for anything else."""
    arguments = get_args(annotation)
    if get_origin(annotation) is not dict or len(arguments) != 2 or arguments[0] is not str:
        return None
    return arguments[1] if hasattr(arguments[1], "model_validate") else None
