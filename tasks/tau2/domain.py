"""The protocol of a tau2 domain; sources.py has the table of domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from harness.core.tau2.end_state import EndState
from harness.core.tau2.message import Message
from harness.core.tau2.task import Task
from harness.tasks.tau2.differing import Differing
from harness.tasks.tau2.environment import Environment
from harness.tasks.tau2.tool import Tool


class Domain(Protocol):
    """Tasks, policy, tools and environments of one domain, loaded once per process.

    domain = open_domain("mock")                       # sources.py
    (task, *_) = domain.tasks()
    environment = domain.environment()                 # a fresh one for every simulation
    environment.initialize(task.initial_state)
    """

    name: str
    source: str
    """Where the environment comes from, with its version."""

    @property
    def databases(self) -> str | None:
        """Digest of the databases where they are not those of `source`."""
        ...

    @property
    def data(self) -> Path | None:
        """The folder whose texts take precedence over inspect-evals': that of --data, or the upstream package's."""
        ...

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The agent's tools by name."""
        ...

    @property
    def user_tools(self) -> Mapping[str, Tool]:
        """The user's tools by name."""
        ...

    @property
    def retrieving(self) -> Sequence[str]:
        """Tools that only look up documents, over all retrieval variants; each variant has some of them."""
        ...

    def tasks(self, split: str | None = None) -> Sequence[Task]:
        """The tasks of a split; all where none is named. Raises DataError."""
        ...

    def splits(self) -> Mapping[str, Sequence[str]]:
        """Split name to task ids. Raises DataError."""
        ...

    def policy(self, *, solo: bool = False) -> str:
        """The agent's policy as text. Raises DataError where the domain has no solo mode."""
        ...

    def environment(self, *, solo: bool = False, task: Task | None = None) -> Environment:
        """A fresh environment that shares no mutable state with any other. Only some of banking_knowledge's depend on the task."""
        ...

    def check(self, tasks: Sequence[Task]) -> None:
        """Raises DataError for a task that names a tool or a function that does not exist."""
        ...

    def end_state(self, task: Task, messages: Sequence[Message], *, solo: bool = False) -> EndState:
        """Replay a recorded simulation of a task. Raises TranscriptError, UnfitEnd, or whatever the task's own data raise."""
        ...

    def differing(self, task: Task, messages: Sequence[Message], *, solo: bool = False) -> Sequence[Differing]:
        """The fields in which the databases at the end differ from those after the reference actions. Raises as `end_state`."""
        ...


GENERIC = (
    *("calculate", "think", "transfer_to_human_agents"),
    *("give_discoverable_user_tool", "unlock_discoverable_agent_tool"),
)
"""Tools that upstream calls neither reading nor writing."""


def kinds(domain: Domain) -> dict[str, str]:
    """What upstream's records call each tool: read, write, generic or think."""
    tools = {**domain.tools, **domain.user_tools}
    return {name: _kind(tool) for name, tool in tools.items()}


def _kind(tool: Tool) -> str:
    if tool.name in GENERIC:
        return "think" if tool.name == "think" else "generic"
    return "write" if tool.changes_state else "read"


def schemas(tools: Mapping[str, Tool]) -> list[dict[str, Any]]:
    """The descriptions of tools for a model, in the domain's order."""
    return [tool.schema() for tool in tools.values() if tool.shown]
