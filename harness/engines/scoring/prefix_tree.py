"""Sequences that share beginnings, as a tree in which each shared beginning is stored once. Arithmetic on token ids."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]

MIN_SHARED = 16
"""Tokens. A shorter shared beginning is read once per sequence: attention over two pieces would cost more."""


@dataclass(frozen=True, slots=True)
class Node:
    """A run of tokens that is read once, at depths `depth`, `depth + 1`, ... below its ancestors' tokens."""

    parent: int
    depth: int
    tokens: Ids

    @property
    def end(self) -> int:
        """Depth after the last token."""
        return self.depth + len(self.tokens)


@dataclass(frozen=True, slots=True)
class PrefixTree:
    """Nodes, parents before children; sequence i is the path down to `leaf[i]`."""

    nodes: tuple[Node, ...]
    leaf: npt.NDArray[np.int64]

    def path(self, node: int) -> list[int]:
        """Nodes from the root to `node`, inclusive."""
        found = []
        while node >= 0:
            found.append(node)
            node = self.nodes[node].parent
        return found[::-1]


def common_prefix(a: Ids, b: Ids) -> int:
    """Length of the longest common beginning."""
    n = min(len(a), len(b))
    different = np.flatnonzero(a[:n] != b[:n])
    return int(different[0]) if len(different) else n


def build_tree(sequences: Sequence[Ids], *, min_shared: int = MIN_SHARED) -> PrefixTree:
    """The prefix tree of sequences of at least one token each.

    Sorted, sequences share most with their neighbours, so the tree is the hierarchy of minima of the neighbours' common
    prefixes. A duplicate adds nothing. Every sequence ends at the end of a node, so a sequence reads all of each node on its path
    and nothing of others: NaN in one sequence cannot reach another.
    """
    order = sorted(range(len(sequences)), key=lambda i: sequences[i].astype(">u4").tobytes())
    owner = list(range(len(order)))
    for rank in range(len(order) - 2, -1, -1):
        here, after = sequences[order[rank]], sequences[order[rank + 1]]
        if len(here) == len(after) and (here == after).all():
            owner[rank] = owner[rank + 1]
    kept = [rank for rank in range(len(order)) if owner[rank] == rank]
    chosen = [sequences[order[rank]] for rank in kept]
    shared = np.array([0] + [common_prefix(a, b) for a, b in itertools.pairwise(chosen)], dtype=np.int64)

    nodes: list[Node] = []
    leaf_of = [0] * len(chosen)
    # (first, after the last, depth already read, parent): a stack instead of recursion, pushed in reverse.
    pending = [(0, len(chosen), 0, -1)] if chosen else []
    while pending:
        low, high, depth, parent = pending.pop()
        if high - low == 1:
            if len(chosen[low]) == depth:
                leaf_of[low] = parent
                continue
            leaf_of[low] = len(nodes)
            nodes.append(Node(parent, depth, chosen[low][depth:]))
            continue
        inner = shared[low + 1 : high]
        common = int(inner.min())
        if common - depth >= min_shared:
            nodes.append(Node(parent, depth, chosen[low][depth:common]))
            depth, parent = common, len(nodes) - 1
        cuts = [low, *(low + 1 + np.flatnonzero(inner == common)).tolist(), high]
        pending += [(a, b, depth, parent) for a, b in zip(cuts[-2::-1], cuts[:0:-1], strict=True)]
    position = {rank: index for index, rank in enumerate(kept)}
    leaf = np.zeros(len(sequences), dtype=np.int64)
    for rank, index in enumerate(order):
        leaf[index] = leaf_of[position[owner[rank]]]
    return PrefixTree(tuple(nodes), leaf)
