"""The banking_knowledge domain: a bank's agent who finds policies and further tools in a knowledge base, and a user who is given tools.

Over the port's tool classes, with upstream's later changes: numbers in a discoverable tool's arguments are all floats, and of its
calls only those that change something, or that the task's reference makes, are recorded in the database.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.core.errors import DataError, SpecError
from harness.core.tau2.task import Task
from harness.core.tau2.upstream import OURS, Upstream
from harness.tasks.tau2 import port
from harness.tasks.tau2.banking_tools import agent_class, user_class
from harness.tasks.tau2.base import BaseDomain
from harness.tasks.tau2.content import as_text
from harness.tasks.tau2.database import Whole
from harness.tasks.tau2.end import EndStates
from harness.tasks.tau2.environment import Environment
from harness.tasks.tau2.files import DomainFiles, read_json
from harness.tasks.tau2.grep import count
from harness.tasks.tau2.task_file import parse_tasks, read_tasks
from harness.tasks.tau2.tool import Tool, table
from harness.tasks.tau2.toolkit import Toolkit

GREP = "grep_only"
WAYS = (GREP, "full_kb", "no_knowledge")
"""Upstream's retrieval variants that need no embeddings and no shell."""
RETRIEVING = ("KB_search", "KB_search_bm25", "KB_search_dense", "grep", "shell", "rewrite_context")
"""The tools of all of upstream's retrieval variants."""
READS = (
    "get_current_time", "get_user_information_by_id", "get_user_information_by_name", "get_user_information_by_email",
    "get_referrals_by_user", "get_credit_card_transactions_by_user", "get_credit_card_accounts_by_user",
    "list_discoverable_agent_tools", "transfer_to_human_agents",
)  # fmt: skip
WRITES = ("change_user_email", "log_verification", "unlock_discoverable_agent_tool")
ORDER = (
    "transfer_to_human_agents", "get_current_time", "get_user_information_by_id", "get_user_information_by_name",
    "get_user_information_by_email", "change_user_email", "get_referrals_by_user", "get_credit_card_transactions_by_user",
    "get_credit_card_accounts_by_user", "log_verification", "give_discoverable_user_tool", "unlock_discoverable_agent_tool",
    "call_discoverable_agent_tool", "list_discoverable_agent_tools",
)  # fmt: skip
USER_WRITES = ("apply_for_credit_card", "submit_referral", "request_human_agent_transfer", "submit_transaction")
USER_ORDER = (
    "apply_for_credit_card", "submit_referral", "call_discoverable_user_tool", "list_discoverable_user_tools",
    "request_human_agent_transfer", "submit_transaction",
)  # fmt: skip
"""The order in which a model is shown them: upstream's."""
LOOKING = frozenset(
    {
        "initial_transfer_to_human_agent_0218", "initial_transfer_to_human_agent_1822",
        "emergency_credit_bureau_incident_transfer_1114", "get_debit_dispute_status_7483", "get_atm_deposit_images_8473",
        "get_user_dispute_history_7291", "get_pending_replacement_orders_5765", "get_closure_reason_history_8293",
        "get_credit_limit_increase_history_4829", "get_payment_history_6183", "get_all_user_accounts_by_user_id_3847",
        "get_bank_account_transactions_9173", "get_debit_cards_by_account_id_7823",
    }
)  # fmt: skip
"""Discoverable tools of the agent that change nothing."""
MOST = 10
"""Documents that a search returns."""


class BankingDomain(BaseDomain):
    """`retrieval`: how the agent finds documents, one of WAYS. Raises SpecError for another."""

    name = "banking_knowledge"
    retrieving = RETRIEVING

    def __init__(
        self,
        files: DomainFiles,
        *,
        source: str,
        tasks_file: Path | None = None,
        upstream: Upstream = OURS,
        retrieval: str | None = None,
    ) -> None:
        self.retrieval = retrieval or GREP
        if self.retrieval not in WAYS:
            raise SpecError(
                f"`retrieval` {self.retrieval!r} is none of {', '.join(WAYS)}; upstream's others come with its package "
                "(`source` tau2)"
            )
        source = f"{source}, retrieval {self.retrieval}"
        super().__init__(files, source=source, tasks_file=tasks_file, upstream=upstream)

    def _make_end_states(self) -> EndStates:
        return EndStates(lambda solo, task: self.environment(solo=solo, task=task))

    @cached_property
    def _tasks(self) -> Sequence[Task]:
        """From the folder of tasks, as upstream; the older tasks.json only without it."""
        folder = None if self._tasks_file is not None else self.files.folder("tasks")
        if folder is None:
            if self._tasks_file is not None:
                return tuple(read_tasks(self._tasks_file))
            return tuple(parse_tasks(self.files.json("tasks.json"), str(self.files.need("tasks.json"))))
        return tuple(read_tasks(folder))

    def splits(self) -> Mapping[str, Sequence[str]]:
        """One split, `base`, with all tasks: upstream has none for this domain."""
        return {"base": [task.id for task in self._tasks]}

    def policy(self, *, solo: bool = False) -> str:
        """Upstream's prompt for the retrieval variant; for `full_kb` with all documents in it."""
        if solo:
            self.no_solo()
        text = self.files.text(f"prompts/{self.retrieval}.md")
        parts = re.compile(r"\{\{component:(\w+)\}\}")
        text = parts.sub(lambda found: self.files.text(f"prompts/components/{found.group(1)}.md"), text)
        if "{{full_knowledge_base}}" in text:
            whole = "\n\n---\n\n".join(f"## {one['title']}\n\n{one['content']}" for one in self._documents)
            text = text.replace("{{full_knowledge_base}}", whole)
        return text

    @cached_property
    def _documents(self) -> Sequence[Mapping[str, str]]:
        folder = self.files.folder("documents")
        found = (
            self.files.json("documents.json")
            if folder is None
            else [read_json(path) for path in sorted(folder.glob("*.json"))]
        )
        if not isinstance(found, list) or not all(isinstance(one, dict) and "content" in one for one in found):
            raise DataError(f"domain {self.name}: its documents are no list of id, title and content")
        return found

    @cached_property
    def tools(self) -> Mapping[str, Tool]:  # type: ignore[override]
        """The agent's tools by name."""
        made = [self._ported("tools", name, changes_state=name in WRITES) for name in (*READS, *WRITES)]
        made += [
            self._ported("tools", "give_discoverable_user_tool", changes_state=True, run=self._give),
            self._ported("tools", "call_discoverable_agent_tool", changes_state=True, run=self._call_of_agent),
        ]
        if self.retrieval != GREP:
            return table(made, ORDER)
        return table([self._ported("tools", "grep", changes_state=False, run=self._grep), *made], ("grep", *ORDER))

    @cached_property
    def user_tools(self) -> Mapping[str, Tool]:  # type: ignore[override]
        """The user's tools by name."""
        made = [self._ported("user_tools", name, changes_state=True) for name in USER_WRITES]
        made += [
            self._ported("user_tools", "list_discoverable_user_tools", changes_state=False),
            self._ported("user_tools", "call_discoverable_user_tool", changes_state=True, run=self._call_of_user),
        ]
        return table(made, USER_ORDER)

    def environment(self, *, solo: bool = False, task: Task | None = None) -> Environment:
        """A fresh environment; both sides work on one database."""
        if solo:
            self.no_solo()
        opened = self._database.open()
        agents, users = self._classes
        agent = port.instance(self._port["BankingAgentTools"].BankingAgentTools, opened, made_by=agents)
        user = port.instance(self._port["BankingUserTools"].BankingUserTools, opened, made_by=users)
        agent.recorded_reads = _recorded_reads(task)
        return Environment(
            agent=Toolkit(target=agent, tools=self.tools, database=self._database),
            user=Toolkit(target=user, tools=self.user_tools, database=self._database),
            text=lambda value: value if isinstance(value, str) else as_text(value),  # JSON stays as a tool spaced it
        )

    @cached_property
    def _port(self) -> Mapping[str, Any]:
        return port.modules(self.name)

    @cached_property
    def _classes(self) -> tuple[type, type]:
        return agent_class(self._port), user_class(self._port)

    @cached_property
    def _database(self) -> Whole:
        return Whole(self.files.json("db.json"), self._port["data_model"].TransactionalDB)

    def _ported(self, module: str, name: str, *, changes_state: bool, run: Callable[..., Any] | None = None) -> Tool:
        """As `ported.ported`, for the port's functions with the prefix `banking_`."""

        def method(target: Any, /, **arguments: Any) -> Any:
            return getattr(target, name)(**arguments)

        def describe() -> Callable[..., Any]:
            return getattr(self._port[module], f"banking_{name}")()  # type: ignore[no-any-return]

        return Tool(name=name, changes_state=changes_state, run=run or method, described=describe)

    @property
    def _grep(self) -> Callable[..., str]:
        documents, bounded = self._documents, not self.upstream.grep

        def grep(_: Any, /, pattern: str) -> str:
            """As upstream ranks: the documents with most matches first."""
            if not pattern.strip():
                return f"No matches found for pattern: {pattern}"
            counts = count(pattern, [one["content"] for one in documents], bounded=bounded)
            counted = list(zip(counts, documents, strict=True))
            best = sorted((one for one in counted if one[0]), key=lambda one: -one[0])[:MOST]
            if not best:
                return f"No matches found for pattern: {pattern}"
            return "\n".join(
                f"{number}. {one['title']}\n   ID: {one['id']}\n   Score: {float(count):.4f}\n   Content: {one['content']}\n"
                for number, (count, one) in enumerate(best, 1)
            )

        grep.__qualname__ = "GrepMixin.grep"  # in Python's message for a missing argument, which the model sees
        return grep

    @property
    def _give(self) -> Callable[..., str]:
        users, agents = self._port["BankingUserTools"], self._port["BankingAgentTools"]
        described = self._classes[1]

        def give(target: Any, /, discoverable_tool_name: str, arguments: str = "{}") -> str:
            if discoverable_tool_name not in users.USER_DISCOVERABLE_TOOLS:
                return f"Error: Unknown discoverable tool '{discoverable_tool_name}'."
            try:
                given = json.loads(arguments)
            except json.JSONDecodeError as error:
                return f"Error: Invalid JSON in arguments: {error}"
            method = getattr(described, discoverable_tool_name)
            known = inspect.signature(method).parameters
            for name in given:
                if name not in known and name != "self":
                    return f"Error: Unexpected parameter: {name}"
            description = re.split(r"\n\s*Args:\s*\n", inspect.getdoc(method) or "", maxsplit=1)[0].strip()
            agents.add_to_db(
                "user_discoverable_tools",
                agents.generate_user_discoverable_tool_id(discoverable_tool_name),
                {"tool_name": discoverable_tool_name, "status": "GIVEN"},
                db=target.db,
            )
            shown = json.dumps(given, indent=2) if given else "(no arguments)"
            return (
                f"Tool given to user: {discoverable_tool_name}\nDescription: {description}\nArguments: {shown}\n\n"
                f"The user can now execute this action by calling `call_discoverable_user_tool` "
                f"with discoverable_tool_name='{discoverable_tool_name}' and the same arguments."
            )

        give.__qualname__ = "KnowledgeTools.give_discoverable_user_tool"
        return give

    @property
    def _call_of_agent(self) -> Callable[..., str]:
        agents = self._port["BankingAgentTools"]

        def call(target: Any, /, agent_tool_name: str, arguments: str = "{}") -> Any:
            if agent_tool_name not in agents.AGENT_DISCOVERABLE_TOOLS:
                return f"Error: Unknown agent tool '{agent_tool_name}'. This tool is not available."
            if agent_tool_name not in target.agent_unlocked_tools:
                return (
                    f"Error: Tool '{agent_tool_name}' has not been unlocked. You must first use "
                    "`unlock_discoverable_agent_tool` to unlock this tool before calling it."
                )
            try:
                given = json.loads(arguments, parse_int=float)
            except json.JSONDecodeError as error:
                return f"Error: Invalid JSON in arguments: {error}"
            try:
                result = getattr(target, agent_tool_name)(**given)
            except TypeError as error:
                return f"Error: Invalid arguments: {error}"
            if agent_tool_name not in LOOKING or agent_tool_name in target.recorded_reads:
                agents.add_to_db(
                    "agent_discoverable_tools",
                    agents.generate_agent_discoverable_tool_id(agent_tool_name),
                    {"tool_name": agent_tool_name, "status": "CALLED"},
                    db=target.db,
                )
            return result

        call.__qualname__ = "KnowledgeTools.call_discoverable_agent_tool"
        return call

    @property
    def _call_of_user(self) -> Callable[..., str]:
        users = self._port["BankingUserTools"]

        def call(target: Any, /, discoverable_tool_name: str, arguments: str = "{}") -> Any:
            if discoverable_tool_name not in users.USER_DISCOVERABLE_TOOLS:
                return f"Error: Unknown discoverable tool '{discoverable_tool_name}'."
            try:
                given = json.loads(arguments, parse_int=float)
            except json.JSONDecodeError as error:
                return f"Error: Invalid JSON in arguments: {error}"
            method = getattr(target, discoverable_tool_name)
            known = inspect.signature(method).parameters
            for name, parameter in known.items():
                if parameter.default is inspect.Parameter.empty and name not in given:
                    return f"Error: Missing required parameter: {name}"
            for name in given:
                if name not in known:
                    return f"Error: Unexpected parameter: {name}"
            try:
                return method(**given)
            except TypeError as error:
                return f"Error: Invalid arguments for tool '{discoverable_tool_name}': {error}"

        call.__qualname__ = "KnowledgeUserTools.call_discoverable_user_tool"
        return call


def _recorded_reads(task: Task | None) -> frozenset[str]:
    """Discoverable tools that the task's reference calls: their calls are recorded even where they only read."""
    criteria = None if task is None else task.evaluation_criteria
    if criteria is None:
        return frozenset()
    calls = (one for one in criteria.actions or () if one.name == "call_discoverable_agent_tool")
    return frozenset(str(one.arguments["agent_tool_name"]) for one in calls if one.arguments.get("agent_tool_name"))
