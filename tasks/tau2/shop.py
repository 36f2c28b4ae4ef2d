"""The common part of airline and retail: an agent with the port's tools over a large database, and a user without tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from harness.core.tau2.task import Task
from harness.tasks.tau2 import port
from harness.tasks.tau2.base import BaseDomain
from harness.tasks.tau2.database import Shared
from harness.tasks.tau2.environment import Environment
from harness.tasks.tau2.generic import calculate, transfer
from harness.tasks.tau2.ported import ported_all
from harness.tasks.tau2.records import Table
from harness.tasks.tau2.tool import Tool, table
from harness.tasks.tau2.toolkit import Toolkit


class ShopDomain(BaseDomain):
    """A subclass names the port's class, its tools in upstream's order, and the record type of each table."""

    store_class: str
    reads: Sequence[str]
    writes: Sequence[str]
    order: Sequence[str]
    """The order in which a model is shown them: upstream's."""
    records: Mapping[str, str]
    """Table to the name of its records' class in the port."""
    database_class: str
    """Upstream's name for the database."""
    unended = False
    """Whether upstream's policy ends without a newline."""
    user_tools: Mapping[str, Tool] = {}

    def own_tools(self) -> list[Tool]:
        """Tools that the port lacks."""
        title = self.store_class.replace("AgentTools", "Tools")
        return [calculate(title, bounded=not self.upstream.calculate), transfer(title)]

    @cached_property
    def tools(self) -> Mapping[str, Tool]:  # type: ignore[override]
        """The agent's tools by name."""
        module = port.modules(self.name)["tools"]
        return table([*ported_all(module, reads=self.reads, writes=self.writes), *self.own_tools()], self.order)

    @cached_property
    def _database(self) -> Shared:
        models = port.modules(self.name)["data_model"]
        raw: Any = self.files.json("db.json")
        kinds = {name: getattr(models, kind) for name, kind in self.records.items()}
        return Shared(
            {name: Table(raw[name], model.model_validate) for name, model in kinds.items()}, self.database_class
        )

    def policy(self, *, solo: bool = False) -> str:
        """The policy. There is no solo mode."""
        if solo:
            self.no_solo()
        return self.files.text("policy.md", "policy.txt", unended=self.unended)

    def environment(self, *, solo: bool = False, task: Task | None = None) -> Environment:
        """A fresh environment."""
        store_class = getattr(port.modules(self.name)[self.store_class], self.store_class)
        target = port.instance(store_class, self._database.open())
        return Environment(
            agent=Toolkit(target=target, tools=self.tools, database=self._database), user=None, solo=solo
        )
