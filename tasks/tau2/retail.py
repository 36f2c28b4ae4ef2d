"""The retail domain: products, users and orders; the user has no tools."""

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
    "find_user_id_by_name_zip",
    "find_user_id_by_email",
    "get_order_details",
    "get_product_details",
    "get_user_details",
    "list_all_product_types",
)
WRITES = (
    "cancel_pending_order",
    "exchange_delivered_order_items",
    "modify_pending_order_address",
    "modify_pending_order_items",
    "modify_pending_order_payment",
    "modify_user_address",
    "return_delivered_order_items",
)

ORDER = (
    "calculate",
    "cancel_pending_order",
    "exchange_delivered_order_items",
    "find_user_id_by_name_zip",
    "find_user_id_by_email",
    "get_order_details",
    "get_product_details",
    "get_item_details",
    "get_user_details",
    "list_all_product_types",
    "modify_pending_order_address",
    "modify_pending_order_items",
    "modify_pending_order_payment",
    "modify_user_address",
    "return_delivered_order_items",
    "transfer_to_human_agents",
)
"""The order in which a model is shown them: upstream's."""


def get_item_details(item_id: str) -> Any:
    """
    Look up one item in the inventory.

    Args:
        item_id: The item's id, such as '6086499569'. It is not the id of the product that the item is a variant of.
    """


def _item(target: Any, /, item_id: str) -> Any:
    """The port has no such tool; upstream got it in 1.0."""
    for product in target.db.products.values():
        if item_id in product.variants:
            return product.variants[item_id]
    raise ValueError("Item not found")


ITEM = Tool(name="get_item_details", changes_state=False, run=_item, described=lambda: get_item_details)


class RetailDomain(BaseDomain):
    """Retail over the port's tool class."""

    name = "retail"
    user_tools: Mapping[str, Tool] = {}

    @cached_property
    def tools(self) -> Mapping[str, Tool]:  # type: ignore[override]
        """The agent's tools by name."""
        module = port.modules(self.name)["tools"]
        return table([*ported_all(module, reads=READS, writes=WRITES), ITEM, CALCULATE, TRANSFER], ORDER)

    @cached_property
    def _database(self) -> Shared:
        models = port.modules(self.name)["data_model"]
        raw: Any = self.files.json("db.json")
        kinds = {"products": models.Product, "users": models.User, "orders": models.Order}
        return Shared({name: Table(raw[name], model.model_validate) for name, model in kinds.items()})

    def policy(self, *, solo: bool = False) -> str:
        """The policy. There is no solo mode."""
        if solo:
            self.no_solo()
        return self.files.text("policy.md", "policy.txt")

    def environment(self, *, solo: bool = False) -> Environment:
        """A fresh environment."""
        store_class = port.modules(self.name)["RetailAgentTools"].RetailAgentTools
        target = port.instance(store_class, self._database.open())
        return Environment(
            agent=Toolkit(target=target, tools=self.tools, database=self._database), user=None, solo=solo
        )
