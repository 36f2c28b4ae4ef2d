"""The telecom domain: a carrier's agent and a user with a phone, who both have tools; solo mode.

After every call the two sides are synchronised: a paid bill, an enabled line, a used-up data plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from pydantic import ConfigDict

from harness.core.tau2.task import Task
from harness.tasks.tau2 import port
from harness.tasks.tau2.base import BaseDomain
from harness.tasks.tau2.database import Whole
from harness.tasks.tau2.end import EndStates
from harness.tasks.tau2.environment import Environment
from harness.tasks.tau2.files import read_bytes
from harness.tasks.tau2.generic import transfer
from harness.tasks.tau2.ported import ported, ported_all
from harness.tasks.tau2.tool import Tool, table
from harness.tasks.tau2.toolkit import Toolkit

AGENT_READS = (
    "get_customer_by_phone",
    "get_customer_by_id",
    "get_customer_by_name",
    "get_bills_for_customer",
    "get_data_usage",
)
AGENT_WRITES = (
    "suspend_line",
    "resume_line",
    "send_payment_request",
    "enable_roaming",
    "disable_roaming",
    "refuel_data",
)
FINDERS = {
    "L": "_get_line_by_id",
    "D": "_get_device_by_id",
    "B": "_get_bill_by_id",
    "C": "get_customer_by_id",
    "P": "_get_plan_by_id",
}
"""First letter of an id to the port's method that finds the record."""
USER_READS = (
    "check_status_bar",
    "check_network_status",
    "check_network_mode_preference",
    "run_speed_test",
    "check_sim_status",
    "check_data_restriction_status",
    "check_apn_settings",
    "check_wifi_status",
    "check_wifi_calling_status",
    "check_vpn_status",
    "check_installed_apps",
    "check_app_status",
    "check_app_permissions",
    "can_send_mms",
    "check_payment_request",
)
USER_WRITES = (
    "set_network_mode_preference",
    "toggle_airplane_mode",
    "reseat_sim_card",
    "toggle_data",
    "toggle_roaming",
    "toggle_data_saver_mode",
    "reset_apn_settings",
    "toggle_wifi",
    "toggle_wifi_calling",
    "connect_vpn",
    "disconnect_vpn",
    "grant_app_permission",
    "reboot_device",
    "make_payment",
)

AGENT_ORDER = (
    "get_customer_by_phone",
    "get_customer_by_id",
    "get_customer_by_name",
    "get_details_by_id",
    "suspend_line",
    "resume_line",
    "get_bills_for_customer",
    "send_payment_request",
    "get_data_usage",
    "enable_roaming",
    "disable_roaming",
    "transfer_to_human_agents",
    "refuel_data",
)
USER_ORDER = (
    "check_status_bar",
    "check_network_status",
    "check_network_mode_preference",
    "set_network_mode_preference",
    "run_speed_test",
    "toggle_airplane_mode",
    "check_sim_status",
    "reseat_sim_card",
    "toggle_data",
    "toggle_roaming",
    "check_data_restriction_status",
    "toggle_data_saver_mode",
    "check_apn_settings",
    "set_apn_settings",
    "reset_apn_settings",
    "check_wifi_status",
    "toggle_wifi",
    "check_wifi_calling_status",
    "toggle_wifi_calling",
    "check_vpn_status",
    "connect_vpn",
    "disconnect_vpn",
    "check_installed_apps",
    "check_app_status",
    "check_app_permissions",
    "grant_app_permission",
    "can_send_mms",
    "reboot_device",
    "check_payment_request",
    "make_payment",
)
"""The order in which a model is shown them: upstream's."""


def _details(target: Any, /, id: str) -> Any:  # noqa: A002
    """The port dumps the record, which turns its numbers and truth values into strings; upstream gives the record."""
    for letter, finder in FINDERS.items():
        if id.startswith(letter):
            return getattr(target, finder)(id)
    raise ValueError(f"Unknown ID format or type: {id}")


_details.__qualname__ = (
    "TelecomTools.get_details_by_id"  # in Python's message for a missing argument, which the model sees
)


def _set_apn_settings(model: Any) -> Callable[..., Any]:
    """The port's method, which ignores unknown keys, with upstream's error for them."""
    strict = type("APNSettings", (model,), {"__module__": __name__, "model_config": ConfigDict(extra="forbid")})

    def run(target: Any, /, apn_settings: Any) -> Any:
        if isinstance(apn_settings, dict):
            strict(**apn_settings)
        return target.set_apn_settings(apn_settings)

    run.__qualname__ = "TelecomUserTools.set_apn_settings"
    return run


class TelecomDomain(BaseDomain):
    """Telecom over the port's tool classes, with the technical support manual in its policy."""

    name = "telecom"
    support = "tech_support_manual"
    support_solo = "tech_support_manual"

    def _make_end_states(self) -> EndStates:
        # Upstream does not synchronise the sides between reference actions, so its DB value is wrong here, and gates nothing.
        # We do, and compare only where a task's reward_basis has DB, unless `--upstream telecom-db` is set.
        theirs = self.upstream.telecom_db
        return EndStates(
            lambda solo, _: self.environment(solo=solo), sync_reference=not theirs, diagnose_database=theirs
        )

    @cached_property
    def tools(self) -> Mapping[str, Tool]:  # type: ignore[override]
        """The agent's tools by name."""
        tools = self._port["tools"]
        details = ported(tools, "get_details_by_id", changes_state=False, run=_details)
        own = [details, transfer("TelecomTools")]
        return table([*ported_all(tools, reads=AGENT_READS, writes=AGENT_WRITES), *own], AGENT_ORDER)

    @cached_property
    def user_tools(self) -> Mapping[str, Tool]:  # type: ignore[override]
        """The user's tools by name."""
        tools = self._port["user_tools"]
        settings = _set_apn_settings(self._port["user_data_model"].APNSettings)
        apn = ported(tools, "set_apn_settings", changes_state=True, run=settings)
        return table([*ported_all(tools, reads=USER_READS, writes=USER_WRITES), apn], USER_ORDER)

    @cached_property
    def _port(self) -> Mapping[str, Any]:
        return port.modules("telecom")

    @cached_property
    def _database(self) -> Whole:
        return Whole(self._toml("db.toml"), self._port["data_model"].TelecomDB)

    @cached_property
    def _user_database(self) -> Whole:
        return Whole(self._toml("user_db.toml"), self._port["user_data_model"].TelecomUserDB)

    def _toml(self, name: str) -> Mapping[str, Any]:
        import tomllib

        return tomllib.loads(read_bytes(self.files.need(name)).decode("utf-8"))

    def policy(self, *, solo: bool = False) -> str:
        """The main policy and the one for technical support, each in its tags."""
        names = ("main_policy_solo", self.support_solo) if solo else ("main_policy", self.support)
        main, support = (self.files.text(f"{name}.md", f"{name}.txt", unended=True) for name in names)
        return f"<main_policy>\n{main}\n</main_policy>\n<tech_support_policy>\n{support}\n</tech_support_policy>"

    def environment(self, *, solo: bool = False, task: Task | None = None) -> Environment:
        """A fresh environment."""
        agent_class = self._port["TelecomAgentTools"].TelecomAgentTools
        user_class = self._port["TelecomUserTools"].TelecomUserTools
        step = self._port["environment"].Environment.sync_tools

        def sync(agent: Any, user: Any) -> None:
            step(SimpleNamespace(tools=agent, user_tools=user))

        agent = port.instance(agent_class, self._database.open())
        user = port.instance(user_class, self._user_database.open())
        return Environment(
            agent=Toolkit(target=agent, tools=self.tools, database=self._database),
            user=Toolkit(target=user, tools=self.user_tools, database=self._user_database),
            sync=sync,
            solo=solo,
        )


class WorkflowDomain(TelecomDomain):
    """Telecom with a workflow in place of the manual."""

    name = "telecom-workflow"
    support = "tech_support_workflow"
    support_solo = "tech_support_workflow_solo"
