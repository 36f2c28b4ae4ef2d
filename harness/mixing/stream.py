"""A stream of examples from several data sets whose shares can be changed while it is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from harness.core.errors import SpecError


class MixedStream(IterableDataset[Any]):
    """An endless stream, like `datasets.interleave_datasets(probabilities=...)`, whose shares `set_shares` changes at any moment.

    `sources`: domain -> anything with a length and items (a `datasets.Dataset`, a list). Each is read in a random order, and in a new one
    when it is exhausted; the seed decides them all. Each worker of a DataLoader reads a part of every source. Shares are in shared memory,
    so that workers see a change from their next example on; what they have prefetched still has the earlier shares. Raises SpecError for
    an empty source.
    """

    def __init__(self, sources: Mapping[str, Any], *, shares: Sequence[float] | None = None, seed: int = 0) -> None:
        super().__init__()
        empty = [name for name, source in sources.items() if not len(source)]
        if empty or not sources:
            raise SpecError(f"no examples in {', '.join(empty) or 'a stream without sources'}")
        if seed < 0:
            raise SpecError(f"the seed is {seed}; it cannot be negative")
        self.domains = list(sources)
        self.seed = seed
        self._sources = list(sources.values())
        self._shares = torch.full((len(self.domains),), 1 / len(self.domains), dtype=torch.float64).share_memory_()  # type: ignore[no-untyped-call]
        if shares is not None:
            self.set_shares(shares)

    @property
    def shares(self) -> list[float]:
        """The current shares, in the order of `domains`."""
        found: list[float] = self._shares.tolist()
        return found

    def set_shares(self, shares: Sequence[float]) -> None:
        """Set the shares, divided by their sum, from the next example on. Raises SpecError for what is no mixture."""
        given = torch.as_tensor(np.asarray(shares, dtype=np.float64))
        if (
            given.shape != self._shares.shape
            or not torch.isfinite(given).all()
            or (given < 0).any()
            or given.sum() <= 0
        ):
            raise SpecError(f"{len(self.domains)} shares are wanted, none negative and not all 0, not {list(shares)}")
        self._shares.copy_(given / given.sum())

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        number, of = (0, 1) if worker is None else (worker.id, worker.num_workers)
        draw = np.random.default_rng([self.seed, number])
        orders = [
            _Order(range(len(source))[number::of] or range(len(source)), [self.seed, number, place])
            for place, source in enumerate(self._sources)
        ]
        while True:
            place = int(np.searchsorted(np.cumsum(self._shares.numpy()), draw.random(), side="right"))
            place = min(place, len(orders) - 1)
            yield self._sources[place][orders[place].next()]


class _Order:
    """Row numbers of a source in random order, each once per epoch."""

    def __init__(self, rows: range, seed: list[int]) -> None:
        self._rows = np.array(rows)
        self._rng = np.random.default_rng(seed)
        self._left: list[int] = []

    def next(self) -> int:
        if not self._left:
            self._left = self._rng.permutation(self._rows).tolist()
        return self._left.pop()
