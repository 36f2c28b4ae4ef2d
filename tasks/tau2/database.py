"""The two kinds of database behind one protocol: one copy for all simulations, or a small one copied for each.

Owns opening, merging and comparing. Knows nothing of what records mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from harness.tasks.tau2.differing import Differing, differing
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

    def differing(self, expected: Any, found: Any) -> Iterator[Differing]:
        """The fields in which `found` differs from `expected`."""
        ...


class Shared:
    """Many records, each copied when a simulation first touches it (records.py). `title`: upstream's name for the class."""

    def __init__(self, tables: Mapping[str, Table], title: str = "DB") -> None:
        self._tables = tables
        self._title = title

    def open(self) -> View:
        """A view for one simulation."""
        return View(self._tables, self._title)

    def merge(self, opened: View, update: Mapping[str, Any]) -> View:
        """The same view."""
        opened.merge(update)
        return opened

    def same(self, one: View, other: View) -> bool:
        """Compares touched records only."""
        return one.same_as(other)

    def differing(self, expected: View, found: View) -> Iterator[Differing]:
        """Looks at touched records only."""
        return expected.differing(found)


class Whole:
    """A few records in lists that tools scan from end to end: copied entirely, which takes under half a millisecond."""

    def __init__(self, raw: Mapping[str, Any], model: Any) -> None:
        self._model = model
        self._json = json.dumps(model.model_validate(raw).model_dump(mode="json"))

    def open(self) -> Any:
        """A copy for one simulation."""
        return self._model.model_validate_json(self._json)

    def merge(self, opened: Any, update: Mapping[str, Any]) -> Any:
        """A new copy. Raises ValueError for a key that no record has, as upstream does for such a database."""
        merged = deep_merge(opened.model_dump(warnings=False), update)
        made = self._model.model_validate(merged)
        lost = _lost(merged, made.model_dump(warnings=False))
        if lost is not None:
            raise ValueError(f"initialization data name {lost!r}, which no record of this database has")
        return made

    def same(self, one: Any, other: Any) -> bool:
        """Compares everything."""
        return canonical(one) == canonical(other)

    def differing(self, expected: Any, found: Any) -> Iterator[Differing]:
        """Looks at everything."""
        for key, value in json.loads(canonical(expected)).items():
            yield from differing(value, json.loads(canonical(found)).get(key), key)


def _lost(given: Any, kept: Any) -> str | None:
    """The first key of what was given that a model did not keep."""
    if isinstance(given, Mapping) and isinstance(kept, Mapping):
        pairs = [(value, kept[key]) for key, value in given.items() if key in kept]
        found = next((str(key) for key in given if key not in kept), None)
        return found if found is not None else next((one for pair in pairs if (one := _lost(*pair))), None)
    if isinstance(given, list) and isinstance(kept, list):
        return next((one for pair in zip(given, kept, strict=False) if (one := _lost(*pair))), None)
    return None
