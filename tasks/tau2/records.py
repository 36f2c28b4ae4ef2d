"""Databases that many simulations share: a record is copied when a simulation first touches it.

Owns the sharing and the comparison. Knows nothing of what a record means. Loading or copying a whole airline database
takes 100 ms and more; a simulation touches a handful of its 3,000 records.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

from harness.tasks.tau2.differing import Differing, differing
from harness.tasks.tau2.merge import deep_merge

Validate = Callable[[Any], Any]
GONE = object()
"""Stands in an overlay for a record that was deleted."""


def canonical(record: Any) -> str:
    """A record as text, equal exactly where upstream's hashes are equal: keys sorted, 25 and 25.0 different.

    Raises ValueError or RecursionError for a record that no JSON can hold.
    """
    return json.dumps(record.model_dump(warnings=False), sort_keys=True, default=str)


class Table:
    """The records of one kind as they were loaded. Never handed out to be changed."""

    def __init__(self, raw: Mapping[str, Any], validate: Validate) -> None:
        self.raw = raw
        self._validate = validate
        self._shared: dict[str, Any] = {}

    def shared(self, key: str) -> Any:
        """The copy that all readers share."""
        record = self._shared.get(key)
        if record is None:
            record = self._shared[key] = self._validate(self.raw[key])
        return record

    def fresh(self, key: str, update: Any = None) -> Any:
        """A copy of its own, with `update` merged in."""
        raw = self.raw.get(key)
        return self._validate(raw if update is None else deep_merge(raw, update))


class Records(MutableMapping[str, Any]):
    """One simulation's view of a table: behaves as a dict, copies on first touch while the view is writable."""

    def __init__(self, table: Table, view: View) -> None:
        self._table = table
        self._view = view
        self.touched: dict[str, Any] = {}
        self._gone: set[str] = set()
        """Keys of the table that were deleted: when set again they come last, as in a dict."""

    def __getitem__(self, key: str) -> Any:
        if key in self.touched:
            record = self.touched[key]
            if record is GONE:
                raise KeyError(key)
            return record
        if key not in self._table.raw:
            raise KeyError(key)
        if self._view.reading:
            return self._table.shared(key)
        record = self.touched[key] = self._table.fresh(key)
        return record

    def __setitem__(self, key: str, record: Any) -> None:
        if self.touched.get(key) is GONE:
            del self.touched[key]
        self.touched[key] = record

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        if key in self._table.raw:
            self.touched[key] = GONE
            self._gone.add(key)
        else:
            del self.touched[key]

    def __contains__(self, key: object) -> bool:
        if key in self.touched:
            return self.touched[key] is not GONE
        return key in self._table.raw

    def __iter__(self) -> Iterator[str]:
        for key in self._table.raw:
            if key not in self._gone:
                yield key
        for key, record in list(self.touched.items()):
            if record is not GONE and (key not in self._table.raw or key in self._gone):
                yield key

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def merge(self, update: Mapping[str, Any]) -> None:
        """Merge records into those there are, as initialisation data do."""
        for key, value in update.items():
            current = self.touched.get(key)
            if current is None or current is GONE:
                self[key] = self._table.fresh(key, value)
            else:
                merged = deep_merge(current.model_dump(warnings=False), value)
                self.touched[key] = type(current).model_validate(merged)

    def text(self, key: str) -> str | None:
        """The record as canonical text; None where there is none."""
        record = self.touched.get(key)
        if record is None:
            return canonical(self._table.shared(key)) if key in self._table.raw else None
        return None if record is GONE else canonical(record)


class View:
    """One simulation's database: an attribute per table, as tools expect it."""

    def __init__(self, tables: Mapping[str, Table], title: str = "DB") -> None:
        self.reading = False
        self._title = title
        self._records = {name: Records(table, self) for name, table in tables.items()}

    def __getattr__(self, name: str) -> Records:
        try:
            return self.__dict__["_records"][name]  # type: ignore[no-any-return]
        except KeyError:
            # Upstream's class in Python's message: a model sees it where both sides work on one side's database.
            raise AttributeError(f"{self._title!r} object has no attribute {name!r}") from None

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Within it records are not copied. Only for tools that change nothing."""
        before, self.reading = self.reading, True
        try:
            yield
        finally:
            self.reading = before

    def merge(self, update: Mapping[str, Any]) -> None:
        """Merge initialisation data. Raises ValueError for a table that does not exist."""
        for name, records in update.items():
            if name not in self._records or not isinstance(records, Mapping):
                raise ValueError(f"initialization data name {name!r}, which is no table of this database")
            self._records[name].merge(records)

    def same_as(self, other: View) -> bool:
        """Whether both hold equal records. Only those that either touched are compared."""
        for name, mine in self._records.items():
            theirs = other._records[name]
            for key in mine.touched.keys() | theirs.touched.keys():
                if mine.text(key) != theirs.text(key):
                    return False
        return True

    def differing(self, found: View) -> Iterator[Differing]:
        """The fields in which `found`'s records differ from these, the expected ones."""
        for name, mine in self._records.items():
            theirs = found._records[name]
            for key in sorted(mine.touched.keys() | theirs.touched.keys()):
                texts = [records.text(key) for records in (mine, theirs)]
                expected, there = (None if text is None else json.loads(text) for text in texts)
                yield from differing(expected, there, f"{name}.{key}")
