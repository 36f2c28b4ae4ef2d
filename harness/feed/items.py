"""The per-item scores beside a feed: Parquet files that its vectors name. Reads; decides nothing about errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.core.vector import ComponentRecord, RewardVector
from harness.reward_models.items import CLUSTERS, MEMBER, VALUES, Items, NoItems, scored_items

COLUMNS = ("id", *VALUES, *CLUSTERS, MEMBER)
"""Columns of a table of items that changes and errors are computed with."""
TEXTS = ("prompt", "target")
"""Columns for display that are the same for every checkpoint: stored once, in a file that the tables of items refer to."""
LINK = b"texts"
"""The key in a table's metadata whose value is that file's path, relative to the run folder."""


def items_of(folder: Path, vector: RewardVector, component: ComponentRecord) -> Items | NoItems:
    """The scored items of a component of a vector whose feed is in `folder`; or why there are none."""
    if component.raw is None:
        return NoItems("it has no value")
    where = component.detail.get("items")
    if not isinstance(where, str):
        return NoItems("the feed names no file of its items")
    if not (folder / where).exists():
        return NoItems(f"its items are not beside the feed (no {where})")
    table = read_table(folder / where)
    if table is None:
        return NoItems(f"its items cannot be read ({folder / where})")
    return scored_items(table, component, vector.provenance.tasks.get(component.name, {}))


def read_texts(folder: Path, where: str) -> dict[str, list[Any]] | None:
    """The stored columns `id`, `prompt` and `target` for a table of items (those there are); None where there is no such file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        linked = (pq.read_schema(folder / where).metadata or {}).get(LINK)
    except (OSError, pa.ArrowException):
        return None
    return None if linked is None else read_table(folder / linked.decode(), ("id", *TEXTS))


def read_table(path: Path, columns: Sequence[str] = COLUMNS) -> dict[str, list[Any]] | None:
    """Those columns of a Parquet file of items that it has; None where it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        with file:
            names = [name for name in columns if name in file.schema_arrow.names]
            table = file.read(columns=names, use_threads=False)
    except (OSError, pa.ArrowException):
        return None
    return {name: table[name].to_pylist() for name in table.column_names}
