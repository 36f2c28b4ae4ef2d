"""The mock domain: a to-do list with notifications, for first trials; solo mode.

The tools are ours, after the behaviour that upstream documents; database, policy and tasks are read from files.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from harness.core.tau2.task import Task
from harness.tasks.tau2.base import BaseDomain
from harness.tasks.tau2.database import Shared
from harness.tasks.tau2.environment import Environment
from harness.tasks.tau2.records import Table
from harness.tasks.tau2.tool import Tool
from harness.tasks.tau2.toolkit import Toolkit


class MockDomain(BaseDomain):
    """Mock over mock_tools.py."""

    name = "mock"

    @cached_property
    def tools(self) -> Mapping[str, Tool]:  # type: ignore[override]
        """The agent's tools by name."""
        from harness.tasks.tau2 import mock_tools

        return mock_tools.AGENT

    @cached_property
    def user_tools(self) -> Mapping[str, Tool]:  # type: ignore[override]
        """The user's tools by name."""
        from harness.tasks.tau2 import mock_tools

        return mock_tools.USER

    @cached_property
    def _database(self) -> Shared:
        from harness.tasks.tau2 import mock_tools

        raw: Any = self.files.json("db.json")
        kinds: dict[str, Any] = {"tasks": mock_tools.Todo, "users": mock_tools.User}
        return Shared({name: Table(raw[name], model.model_validate) for name, model in kinds.items()}, "MockDB")

    @cached_property
    def _user_database(self) -> Shared:
        from harness.tasks.tau2 import mock_tools

        # inspect-evals' data are older than the notifications and have no such file.
        raw: Any = self.files.json("user_db.json") if self.files.find("user_db.json") else {"notifications": {}}
        return Shared(
            {"notifications": Table(raw["notifications"], mock_tools.Notification.model_validate)}, "MockUserDB"
        )

    def policy(self, *, solo: bool = False) -> str:
        """The policy."""
        if solo:
            return self.files.text("policy_solo.md")
        text = self.files.text("policy.md", unended=True)
        # Upstream's file has a space at the end of this line, which the package's copy lost.
        return text.replace("create tasks\n", "create tasks \n") if self.files.is_packaged("policy.md") else text

    def environment(self, *, solo: bool = False, task: Task | None = None) -> Environment:
        """A fresh environment."""
        from harness.tasks.tau2 import mock_tools

        agent = mock_tools.MockTools(self._database.open())
        user = mock_tools.MockUserTools(self._user_database.open())
        return Environment(
            agent=Toolkit(target=agent, tools=self.tools, database=self._database),
            user=Toolkit(target=user, tools=self.user_tools, database=self._user_database),
            solo=solo,
        )
