"""Which rows of a pack attend to which, grouped into few large attention calls. No torch, no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

WASTE = 1.3
"""A group may compute this many times the attention it needs; the rest is padding."""
MOST_SCORES = 2**24
"""Limit of query times key positions of one group, padding included."""

KEY_COST = 16
"""Cost of fetching a key position, in units of one query position attending to it."""
NEVER = 2**40
"""Depth of a padded key position: below every row, so no row sees it."""


class Read(NamedTuple):
    """Query rows that follow each other in a pack and the rows they look at: a shared path, root first, then branches.

    A row sees the keys of branch 0 and of its own branch, as far as its own depth.
    """

    q: Indices
    k: Indices
    depth: Indices
    """Of each query row."""
    k_depth: Indices
    """Of each key row."""
    branch: Indices
    """Of each query row; 0 for one that is on the shared path."""
    k_branch: Indices


def path_read(q: Indices, k: Indices, depth: Indices) -> Read:
    """A read of one path: no branches."""
    return Read(q, k, depth, np.arange(len(k)), np.zeros_like(q), np.zeros_like(k))


def join_reads(reads: Sequence[Read], *, shared: int) -> Read:
    """Several as one. Their first `shared` keys are the same; what one has beyond them is its branch."""
    count = len(reads)
    own = [len(read.k) - shared for read in reads]
    return Read(
        q=np.concatenate([read.q for read in reads]),
        k=np.concatenate([reads[0].k[:shared], *(read.k[shared:] for read in reads)]),
        depth=np.concatenate([read.depth for read in reads]),
        k_depth=np.concatenate([reads[0].k_depth[:shared], *(read.k_depth[shared:] for read in reads)]),
        branch=np.repeat(np.arange(1, count + 1) * (np.array(own) > 0), [len(read.q) for read in reads]),
        k_branch=np.concatenate([np.zeros(shared, np.int64), np.repeat(np.arange(1, count + 1), own)]),
    )


def joining_pays(reads: Sequence[Read], *, shared: int) -> bool:
    """Whether attending to each other's masked branches costs less than fetching the shared keys once per read."""
    n_q, n_k = sum(len(read.q) for read in reads), shared + sum(len(read.k) - shared for read in reads)
    apart = sum(len(read.k) * (len(read.q) + KEY_COST) for read in reads)
    return n_k * (n_q + KEY_COST) <= apart and n_q * n_k <= MOST_SCORES


@dataclass(frozen=True, slots=True)
class Group:
    """B reads of similar size, padded to Lq query and Lk key positions by repeating a row."""

    q: Indices
    """Shape [B, Lq]."""
    k: Indices
    """Shape [B, Lk]."""
    depth: Indices
    """Shape [B, Lq]."""
    k_depth: Indices
    """Shape [B, Lk]; NEVER where it is padding."""
    branch: Indices
    """Shape [B, Lq]."""
    k_branch: Indices
    """Shape [B, Lk]."""
    real: npt.NDArray[np.bool_]
    """Which query positions are no padding, shape [B, Lq]."""
    causal: bool
    """Query position i sees key positions 0 to i and nothing else: no mask is needed."""

    def sees(self) -> npt.NDArray[np.bool_]:
        """Shape [B, Lq, Lk]: which key positions a query position looks at."""
        on_path = (self.k_branch[:, None] == 0) | (self.k_branch[:, None] == self.branch[:, :, None])
        seen: npt.NDArray[np.bool_] = on_path & (self.k_depth[:, None] <= self.depth[:, :, None])
        return seen

    def apart(self) -> list[Group]:
        """Every read as a group of its own, without padding."""
        found = []
        for row, (n_q, n_k) in enumerate(zip(self.real.sum(axis=1), (self.k_depth != NEVER).sum(axis=1), strict=True)):
            q, k = (slice(row, row + 1), slice(n_q)), (slice(row, row + 1), slice(n_k))
            found.append(
                Group(
                    q=self.q[q],
                    k=self.k[k],
                    depth=self.depth[q],
                    k_depth=self.k_depth[k],
                    branch=self.branch[q],
                    k_branch=self.k_branch[k],
                    real=self.real[q],
                    causal=self.causal,
                )
            )
        return found


def group_reads(reads: Sequence[Read], *, slack: int = 0) -> list[Group]:
    """Every read in exactly one group. `slack`: attention scores that a group may compute for padding even beyond WASTE."""
    plain = [read for read in reads if is_causal(read)]
    masked = [read for read in reads if not is_causal(read)]
    return [_group(batch, causal=True) for batch in _batches(plain, slack)] + [
        _group(batch, causal=False) for batch in _batches(masked, slack)
    ]


def is_causal(read: Read) -> bool:
    """Whether the query rows are the whole path, so that plain causal attention does."""
    return len(read.q) == len(read.k) and int(read.depth[0]) == 0


def _batches(reads: Sequence[Read], slack: int) -> list[list[Read]]:
    """Reads of similar size together, the largest first, within WASTE or slack, and MOST_SCORES."""
    ordered = sorted(reads, key=lambda read: (-len(read.k), -len(read.q), int(read.q[0])))
    batches: list[list[Read]] = []
    area = widest = 0
    for read in ordered:
        size = len(read.q) * len(read.k)
        if batches:
            most = max(widest, len(read.q))
            padded = most * len(batches[-1][0].k) * (len(batches[-1]) + 1)
            if padded <= min(max(WASTE * (area + size), area + size + slack), MOST_SCORES):
                batches[-1].append(read)
                area, widest = area + size, most
                continue
        batches.append([read])
        area, widest = size, len(read.q)
    return batches


def _group(batch: Sequence[Read], *, causal: bool) -> Group:
    n_q, n_k = max(len(read.q) for read in batch), max(len(read.k) for read in batch)
    q = _padded([read.q for read in batch], n_q)
    k = _padded([read.k for read in batch], n_k)
    depth = _padded([read.depth for read in batch], n_q)
    k_depth = _padded([read.k_depth for read in batch], n_k, fill=NEVER)
    branch = _padded([read.branch for read in batch], n_q)
    k_branch = _padded([read.k_branch for read in batch], n_k)
    real = np.arange(n_q)[None, :] < np.array([len(read.q) for read in batch])[:, None]
    return Group(q=q, k=k, depth=depth, k_depth=k_depth, branch=branch, k_branch=k_branch, real=real, causal=causal)


def _padded(rows: Sequence[Indices], width: int, *, fill: int | None = None) -> Indices:
    """Shape [len(rows), width]; short rows go on with `fill`, or repeat their last entry."""
    table = np.empty((len(rows), width), dtype=np.int64)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
        table[index, len(row) :] = row[-1] if fill is None else fill
    return table
