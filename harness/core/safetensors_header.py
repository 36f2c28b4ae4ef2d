"""The header of a safetensors file: which tensors it holds and where. Says whether the file is whole; reads no weights."""

from __future__ import annotations

import json
import math
import operator
import struct
from pathlib import Path
from typing import NamedTuple

from harness.core.errors import CheckpointError

ITEM_BYTES = {
    **{"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2},
    **{"I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1},
}
"""Bytes of one number, by safetensors' name of its type."""


class TensorEntry(NamedTuple):
    """One tensor; offsets count from the end of the header."""

    name: str
    dtype: str
    shape: list[int]
    begin: int
    stop: int


class Header(NamedTuple):
    """All tensors of a file; `start` is where their bytes begin."""

    entries: list[TensorEntry]
    start: int

    @property
    def n_parameters(self) -> int:
        """Numbers in all tensors."""
        return sum(math.prod(entry.shape) for entry in self.entries)

    @property
    def n_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(entry.stop - entry.begin for entry in self.entries)


def read_header(path: Path) -> Header:
    """Read a file's header and compare it with the file's length. Raises CheckpointError if the file is not whole."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            prefix = stream.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
            if 8 + length > size:
                raise CheckpointError(
                    f"{path} is truncated or corrupt ({size} bytes hold no whole header); copy it again"
                )
            entries = _entries(stream.read(length), path)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    end = 8 + length + max((entry.stop for entry in entries), default=0)
    if size != end:
        state = "truncated" if size < end else "longer than its header says"
        raise CheckpointError(f"{path} is {state}: {size} bytes, expected {end}; copy it again")
    return Header(entries, 8 + length)


def _entries(header: bytes, path: Path) -> list[TensorEntry]:
    """The tensors a header lists. Raises CheckpointError for one that is not of a safetensors file."""
    try:
        table = json.loads(header)
        entries = []
        for name, value in table.items():
            if name == "__metadata__":
                continue
            begin, stop = map(operator.index, value["data_offsets"])
            if not 0 <= begin <= stop:
                raise ValueError(f"tensor {name} ends before it begins")
            shape = [operator.index(size) for size in value["shape"]]
            dtype = str(value["dtype"])
            if dtype in ITEM_BYTES and stop - begin != math.prod(shape) * ITEM_BYTES[dtype]:
                raise ValueError(f"tensor {name} is not as long as its shape says")
            entries.append(TensorEntry(name, dtype, shape, begin, stop))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is corrupt: its header is not that of a safetensors file; copy it again"
        ) from error
    return entries
