"""The two kinds of database behind one protocol: one copy for all simulations, or a small one copied for each.

Owns opening, merging and comparing. Knows nothing of what records mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from harness.tasks.tau2.merge import deep_merge
from harness.tasks.tau2.records import Table, View, canonical


class Database(Protocol):
    """A database as it was loaded, once per process."""

    def open(self) -> Any:
        """What one simulation's tools work on; changing it changes nothing else."""
        ...

    def merge(self, opened: Any, update: Mapping[str, Any]) -> Any:
        """An opened database with initialisation data merged in. Raises ValueError for data that do not fit."""
        ...

    def same(self, one: Any, other: Any) -> bool:
        """Whether two opened databases hold equal records."""
        ...


class Shared:
    """Many records, each copied when a simulation first touches it (records.py)."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._tables = tables

    def open(self) -> View:
        """A view for one simulation."""
        return View(self._tables)

    def merge(self, opened: View, update: Mapping[str, Any]) -> View:
        """The same view."""
        opened.merge(update)
        return opened

    def same(self, one: View, other: View) -> bool:
        """Compares touched records only."""
        return one.same_as(other)


class Whole:
    """A few records in lists that tools scan from end to end: copied entirely, which takes under half a millisecond."""

    def __init__(self, raw: Mapping[str, Any], model: Any) -> None:
        self._model = model
        self._json = json.dumps(model.model_validate(raw).model_dump(mode="json"))

    def open(self) -> Any:
        """A copy for one simulation."""
        return self._model.model_validate_json(self._json)

    def merge(self, opened: Any, update: Mapping[str, Any]) -> Any:
        """A new copy."""
        return self._model.model_validate(deep_merge(opened.model_dump(warnings=False), update))

    def same(self, one: Any, other: Any) -> bool:
        """Compares everything."""
        return canonical(one) == canonical(other)
