"""Who attends to what in a pack, grouped so that few large attention calls do it. No torch, no model."""

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
"""Query times key positions of one group, padding included."""


class Read(NamedTuple):
    """Query rows that follow each other in a pack and the rows of their path, root first."""

    q: Indices
    k: Indices
    depth: Indices
    """Of each query row: it sees path positions 0 to depth."""


@dataclass(frozen=True, slots=True)
class Group:
    """B reads of similar size, padded to Lq query and Lk key positions by repeating a row."""

    q: Indices
    """Shape [B, Lq]."""
    k: Indices
    """Shape [B, Lk]."""
    depth: Indices
    """Shape [B, Lq]."""
    real: npt.NDArray[np.bool_]
    """Which query positions are no padding, shape [B, Lq]."""
    causal: bool
    """Query position i sees key positions 0 to i and nothing else: no mask is needed."""


def group_reads(reads: Sequence[Read]) -> list[Group]:
    """Every read in exactly one group."""
    plain = [read for read in reads if _is_causal(read)]
    masked = [read for read in reads if not _is_causal(read)]
    return [_group(batch, causal=True) for batch in _batches(plain)] + [
        _group(batch, causal=False) for batch in _batches(masked)
    ]


def _is_causal(read: Read) -> bool:
    return len(read.q) == len(read.k) and int(read.depth[0]) == 0


def _batches(reads: Sequence[Read]) -> list[list[Read]]:
    """Reads of similar size together, the largest first, within WASTE and MOST_SCORES."""
    ordered = sorted(reads, key=lambda read: (-len(read.k), -len(read.q), int(read.q[0])))
    batches: list[list[Read]] = []
    area = widest = 0
    for read in ordered:
        size = len(read.q) * len(read.k)
        if batches:
            most = max(widest, len(read.q))
            padded = most * len(batches[-1][0].k) * (len(batches[-1]) + 1)
            if padded <= min(WASTE * (area + size), MOST_SCORES):
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
    real = np.arange(n_q)[None, :] < np.array([len(read.q) for read in batch])[:, None]
    return Group(q=q, k=k, depth=depth, real=real, causal=causal)


def _padded(rows: Sequence[Indices], width: int) -> Indices:
    """Shape [len(rows), width]; short rows repeat their last entry."""
    table = np.empty((len(rows), width), dtype=np.int64)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
        table[index, len(row) :] = row[-1]
    return table
