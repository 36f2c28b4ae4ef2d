"""The families of agent benchmarks in families.yaml: their members, each with its component's keys. No Inspect, no data."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent


@cache
def families() -> dict[str, Mapping[str, Mapping[str, Any]]]:
    """Family -> member -> keys of its component, in the table's order."""
    table: dict[str, Mapping[str, Mapping[str, Any]]] = yaml.safe_load((FOLDER / "families.yaml").read_text("utf-8"))
    return table
