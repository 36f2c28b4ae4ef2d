"""The retail domain: products, users and orders; the user has no tools."""

from __future__ import annotations

import json
from typing import Any

from harness.tasks.tau2 import port
from harness.tasks.tau2.ported import ported
from harness.tasks.tau2.shop import ShopDomain
from harness.tasks.tau2.tool import Tool


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


_item.__qualname__ = "RetailTools.get_item_details"  # in Python's message for a missing argument, which the model sees
ITEM = Tool(name="get_item_details", changes_state=False, run=_item, described=lambda: get_item_details)


def _product_types(target: Any, /) -> str:
    """Upstream sorts them by name, the port does not."""
    return json.dumps({one.name: one.product_id for one in target.db.products.values()}, sort_keys=True)


_product_types.__qualname__ = "RetailTools.list_all_product_types"


class RetailDomain(ShopDomain):
    """Retail over the port's tool class."""

    name = "retail"
    store_class = "RetailAgentTools"
    database_class = "RetailDB"
    records = {"products": "Product", "users": "User", "orders": "Order"}
    reads = (
        "find_user_id_by_name_zip",
        "find_user_id_by_email",
        "get_order_details",
        "get_product_details",
        "get_user_details",
    )
    writes = (
        "cancel_pending_order",
        "exchange_delivered_order_items",
        "modify_pending_order_address",
        "modify_pending_order_items",
        "modify_pending_order_payment",
        "modify_user_address",
        "return_delivered_order_items",
    )
    order = (
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

    def own_tools(self) -> list[Tool]:
        """Tools that the port lacks, or whose results differ from upstream's."""
        tools = port.modules(self.name)["tools"]
        types = ported(tools, "list_all_product_types", changes_state=False, run=_product_types)
        return [*super().own_tools(), ITEM, types]
