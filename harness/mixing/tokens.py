"""Token files, one per domain, read as windows in a random order per seed, repeatedly where a domain is exhausted. No model."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.core.errors import DataError, why_unreadable
from harness.mixing.domains import Floats

Ids = npt.NDArray[np.int64]


def read_tokens(path: Path) -> npt.NDArray[Any]:
    """The token ids of a `.npy` file (one dimension, whole numbers) or a `.bin` file (uint16 without a header), mapped and not read.

    Raises DataError.
    """
    try:
        if path.suffix == ".npy":
            found: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        elif path.suffix == ".bin":
            found = np.memmap(path, np.uint16, "r")
        else:
            raise DataError(f"{path} is no token file; name a .npy of one dimension, or a .bin of uint16")
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read token ids from {path}: {error}") from error
    if not isinstance(found, np.ndarray):
        raise DataError(f"{path} is an archive of arrays; name a .npy of one dimension")
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        raise DataError(
            f"{path} has shape {list(found.shape)} of {found.dtype}; token ids are one dimension of whole numbers"
        )
    return found


def read_token_list(path: Path) -> dict[str, str]:
    """Domain -> token file, from a JSON object; paths are relative to its folder. Raises DataError."""
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {why_unreadable(error)}") from error
    if not isinstance(value, dict) or not value or not all(isinstance(one, str) for one in value.values()):
        raise DataError(f'{path} lists no token files; it takes {{"web": "web.npy", "code": "code.npy"}}')
    return {name: str(path.parent / one) for name, one in value.items()}


class Windows:
    """Windows of `length` tokens from each domain. `taken`: the number of windows read of each, which is the whole state.

    A domain's windows do not overlap. Their order depends on seed, domain and epoch: an exhausted domain begins again in another order.
    """

    def __init__(self, files: Mapping[str, str], *, length: int) -> None:
        self.domains = tuple(files)
        self.length = length
        self._paths = list(files.values())
        self._ids = [read_tokens(Path(path)) for path in self._paths]
        self._orders: dict[int, tuple[tuple[int, int], Ids]] = {}
        self._seed = 0
        self.taken = [0] * len(self.domains)
        for path, ids in zip(self._paths, self._ids, strict=True):
            if len(ids) < length:
                raise DataError(f"{path} has {len(ids)} tokens, and a window takes {length}")

    def reset(self, seed: int, taken: Sequence[int] | None = None) -> None:
        """Begin anew, or after `taken` windows of each domain."""
        self._seed = seed
        self.taken = [0] * len(self.domains) if taken is None else list(taken)

    def sizes(self) -> list[int]:
        """Number of windows of each domain in an epoch."""
        return [len(ids) // self.length for ids in self._ids]

    def take(self, rho: Floats, n: int, *, step: int, vocabulary: int) -> Ids:
        """`n` windows, shape [n, length], in random order; the number of each domain is n x share rounded at random, with that mean.

        Raises DataError for an id that is not below `vocabulary`.
        """
        rng = np.random.default_rng([self._seed, step])
        edges = np.append(0.0, np.cumsum(rho)) * n / float(np.sum(rho))
        edges[-1] = n
        counts = np.diff(np.ceil(edges - rng.random()).clip(0, n)).astype(int)
        rows = [self._next(place) for place in range(len(counts)) for _ in range(counts[place])]
        found: Ids = np.stack(rows)[rng.permutation(n)]
        if found.max() >= vocabulary or found.min() < 0:
            wrong = next(
                p for p, ids in zip(self._paths, self._ids, strict=True) if ids.max() >= vocabulary or ids.min() < 0
            )
            raise DataError(
                f"{wrong} has token ids beyond the model's {vocabulary}; it was made with another tokenizer"
            )
        return found

    def _next(self, place: int) -> Ids:
        number = len(self._ids[place]) // self.length
        epoch, index = divmod(self.taken[place], number)
        key = (self._seed, epoch)
        if self._orders.get(place, (None, None))[0] != key:
            rng = np.random.default_rng([self._seed, epoch, zlib.crc32(self.domains[place].encode())])
            self._orders[place] = (key, rng.permutation(number))
        begin = int(self._orders[place][1][index]) * self.length
        self.taken[place] += 1
        return self._ids[place][begin : begin + self.length].astype(np.int64)
