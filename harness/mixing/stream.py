"""A stream of examples from several data sets whose shares can be changed while it is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from harness.core.errors import SpecError


class MixedStream(IterableDataset[Any]):
    """Endless, like `datasets.interleave_datasets(probabilities=...)`, with `set_shares` at any moment.

    `sources`: domain -> anything with a length and items (a `datasets.Dataset`, a list). Each is read in an order of its own, drawn
    anew when it has run out; the seed decides all of it. Workers of a DataLoader share a source's examples out. Shares are in shared memory, so workers of a DataLoader see a change too, from
    their next example on: what they have prefetched is still of the shares before. Raises SpecError for a source that is empty.
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
        """What it draws by now, in the order of `domains`."""
        found: list[float] = self._shares.tolist()
        return found

    def set_shares(self, shares: Sequence[float]) -> None:
        """From the next example on; divided by their sum. Raises SpecError for what is no mixture."""
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
    """Row numbers of a source, each once before any comes again."""

    def __init__(self, rows: range, seed: list[int]) -> None:
        self._rows = np.array(rows)
        self._rng = np.random.default_rng(seed)
        self._left: list[int] = []

    def next(self) -> int:
        if not self._left:
            self._left = self._rng.permutation(self._rows).tolist()
        return self._left.pop()
