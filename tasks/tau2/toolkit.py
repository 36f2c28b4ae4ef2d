"""One side of an environment, the agent's or the user's: its opened database and the tools that work on it.

Owns running one call. Knows nothing of the other side, of messages or of verdicts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

from harness.tasks.tau2.database import Database
from harness.tasks.tau2.differing import Differing
from harness.tasks.tau2.records import View
from harness.tasks.tau2.tool import Tool


class Toolkit:
    """`target` is the object that tools run on; its `db` is what `database` opened."""

    def __init__(self, *, target: Any, tools: Mapping[str, Tool], database: Database) -> None:
        self.target = target
        self.tools = tools
        self.database = database

    def merge(self, update: Mapping[str, Any]) -> None:
        """Merge initialisation data into the database. Raises ValueError for data that do not fit."""
        self.target.db = self.database.merge(self.target.db, update)

    def share_database_of(self, other: Toolkit) -> None:
        """From now on work on the other side's database."""
        self.target.db, self.database = other.target.db, other.database

    def same_database(self, other: Toolkit) -> bool:
        """Whether the databases of two toolkits hold equal records."""
        return self.database.same(self.target.db, other.target.db)

    def differing(self, found: Toolkit) -> Iterator[Differing]:
        """The fields in which `found`'s database differs from this one, the expected one."""
        return self.database.differing(self.target.db, found.target.db)

    def use(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Run a tool. Raises ValueError for an unknown one, and whatever the tool raises."""
        tool = self.tools.get(name)
        if tool is None:
            raise ValueError(f"Tool '{name}' not found.")
        opened = self.target.db
        looking = not tool.changes_state and isinstance(opened, View)
        with opened.read_only() if looking else nullcontext():
            return tool.run(self.target, **arguments)

    def function(self, name: str) -> Any:
        """A public method or tool of this side by name, as task files call them; None where there is none."""
        if name.startswith("_"):
            return None
        tool = self.tools.get(name)
        found = getattr(self.target, name, None)
        if callable(found):
            return found
        return None if tool is None else lambda **arguments: tool.run(self.target, **arguments)
