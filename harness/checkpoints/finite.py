"""Whether saved weights are finite: read from the files piece by piece, without torch and without a model."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.errors import CheckpointError
from harness.core.safetensors_header import TensorEntry, read_header

PIECE = 2**24
"""Bytes that are looked at in one go; a multiple of every element's size."""
EXPONENTS: dict[str, tuple[type[np.unsignedinteger[Any]], int]] = {
    "F64": (np.uint64, 0x7FF0000000000000),
    "F32": (np.uint32, 0x7F800000),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
    "F8_E5M2": (np.uint8, 0x7C),
}
"""safetensors' dtype -> unsigned integer of that width, and the bits that are all set in NaN and infinity alone."""
NAN_F8_E4M3 = 0x7F
"""All bits but the sign: the only value of F8_E4M3 that is not finite."""


def first_non_finite(files: Iterable[Path]) -> str | None:
    """Name of the first tensor that holds NaN or infinity. Raises CheckpointError for a file that is not whole.

    Saved attention masks may hold minus infinity and are left out.
    """
    for path in files:
        header = read_header(path)
        try:
            with path.open("rb") as stream, ThreadPoolExecutor(max_workers=4) as pool:

                def broken(
                    entry: TensorEntry,
                    *,
                    descriptor: int = stream.fileno(),
                    start: int = header.start,
                    path: Path = path,
                ) -> bool:
                    return _broken(descriptor, entry, start, path)

                for entry, found in zip(header.entries, pool.map(broken, header.entries), strict=True):
                    if found:
                        return entry.name
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    return None


def _broken(descriptor: int, entry: TensorEntry, start: int, path: Path) -> bool:
    exponent = EXPONENTS.get(entry.dtype)
    if "mask" in entry.name.rsplit(".", 1)[-1] or (exponent is None and entry.dtype != "F8_E4M3"):
        return False
    for begin in range(entry.begin, entry.stop, PIECE):
        size = min(PIECE, entry.stop - begin)
        piece = os.pread(descriptor, size, start + begin)
        if len(piece) < size:
            raise CheckpointError(f"{path} became shorter while it was read; wait until it is written")
        if exponent is None:
            bits = np.frombuffer(piece, np.uint8)
            if bool(((bits & NAN_F8_E4M3) == NAN_F8_E4M3).any()):
                return True
            continue
        kind, mask = exponent
        values = np.frombuffer(piece, np.dtype(kind).newbyteorder("<"))
        wanted = kind(mask)
        if bool(((values & wanted) == wanted).any()):
            return True
    return False
