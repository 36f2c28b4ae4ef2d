"""The airline domain: flights, users and reservations; the user has no tools."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from harness.tasks.tau2 import port
from harness.tasks.tau2.base import BaseDomain
from harness.tasks.tau2.database import Shared
from harness.tasks.tau2.environment import Environment
from harness.tasks.tau2.generic import CALCULATE, TRANSFER
from harness.tasks.tau2.ported import ported_all
from harness.tasks.tau2.records import Table
from harness.tasks.tau2.tool import Tool, table
from harness.tasks.tau2.toolkit import Toolkit

READS = (
    "get_flight_status",
    "get_reservation_details",
    "get_user_details",
    "list_all_airports",
    "search_direct_flight",
    "search_onestop_flight",
)
WRITES = (
    "book_reservation",
    "cancel_reservation",
    "send_certificate",
    "update_reservation_baggages",
    "update_reservation_flights",
    "update_reservation_passengers",
)

ORDER = (
    "book_reservation",
    "calculate",
    "cancel_reservation",
    "get_reservation_details",
    "get_user_details",
    "list_all_airports",
    "search_direct_flight",
    "search_onestop_flight",
    "send_certificate",
    "transfer_to_human_agents",
    "update_reservation_baggages",
    "update_reservation_flights",
    "update_reservation_passengers",
    "get_flight_status",
)
"""The order in which a model is shown them: upstream's."""


class AirlineDomain(BaseDomain):
    """Airline over the port's tool class."""

    name = "airline"
    user_tools: Mapping[str, Tool] = {}

    @cached_property
    def tools(self) -> Mapping[str, Tool]:  # type: ignore[override]
        """The agent's tools by name."""
        module = port.modules(self.name)["tools"]
        return table([*ported_all(module, reads=READS, writes=WRITES), CALCULATE, TRANSFER], ORDER)

    @cached_property
    def _database(self) -> Shared:
        models = port.modules(self.name)["data_model"]
        raw: Any = self.files.json("db.json")
        kinds = {"flights": models.Flight, "users": models.User, "reservations": models.Reservation}
        return Shared({name: Table(raw[name], model.model_validate) for name, model in kinds.items()})

    def policy(self, *, solo: bool = False) -> str:
        """The policy. There is no solo mode."""
        if solo:
            self.no_solo()
        return self.files.text("policy.md", "policy.txt")

    def environment(self, *, solo: bool = False) -> Environment:
        """A fresh environment."""
        store_class = port.modules(self.name)["AirlineAgentTools"].AirlineAgentTools
        target = port.instance(store_class, self._database.open())
        return Environment(
            agent=Toolkit(target=target, tools=self.tools, database=self._database), user=None, solo=solo
        )
