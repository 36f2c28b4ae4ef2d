"""Packs: what a model reads at once, without padding and with shared beginnings read once. No torch, no model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.core.tokens import TokenPair
from harness.engines.scoring.prefix_tree import PrefixTree, build_tree
from harness.engines.scoring.reads import (
    Group,
    Indices,
    Read,
    group_reads,
    is_causal,
    join_reads,
    joining_pays,
    path_read,
)


@dataclass(frozen=True, slots=True)
class Pack:
    """T tokens read in one forward pass, R of whose rows predict E response tokens of some pairs."""

    ids: Indices
    """Shape [T]."""
    depth: Indices
    """Position of each token in its sequence, shape [T]."""
    groups: tuple[Group, ...]
    """Attention of all rows."""
    row_groups: tuple[Group, ...]
    """Attention of the predicting rows alone: query positions count in `rows`, key positions in the pack."""
    rows: Indices
    """Rows that predict something, ascending, shape [R]."""
    entry_row: Indices
    """Index into `rows` of each predicted token, ascending, shape [E]."""
    target: Indices
    """Shape [E]."""
    pair: Indices
    """Which pair a predicted token belongs to, shape [E]."""
    n_pairs: int
    n_pair_tokens: int
    """Tokens that its pairs would read without sharing: at least T."""


class PackPlan:
    """The pairs of a field and their packs by budget, which are kept for the next model."""

    def __init__(self, pairs: Sequence[TokenPair]) -> None:
        self.pairs = tuple(pairs)
        self._packs: dict[tuple[int, int, int], list[Pack]] = {}
        self._chosen: dict[Hashable, list[int]] = {}

    @functools.cached_property
    def targets(self) -> tuple[int, int]:
        """Least and greatest id of a response."""
        if not self.pairs:
            return 0, 0
        ids = np.concatenate([pair.ids[pair.n_context :] for pair in self.pairs])
        return int(ids.min()), int(ids.max())

    @functools.cached_property
    def inputs(self) -> tuple[int, int]:
        """Least and greatest id that a model reads: all but each pair's last."""
        ids = np.concatenate([np.zeros(0, dtype=np.int32), *(pair.ids[:-1] for pair in self.pairs)])
        return (int(ids.min()), int(ids.max())) if len(ids) else (0, 0)

    def chosen(self, key: Hashable, sample: Callable[[], list[int]]) -> list[int]:
        """Indices of the pairs whose scores are proved: `sample()`, called once per `key`, which has everything it depends on."""
        if key not in self._chosen:
            self._chosen[key] = sample()
        return self._chosen[key]

    def packs(self, *, tokens: int, rows: int, slack: int = 0) -> list[Pack]:
        """All pairs in packs of at most `tokens` tokens and `rows` predicting rows; a pair larger than that is a pack by itself."""
        key = tokens, rows, slack
        if key not in self._packs:
            self._packs[key] = self.packs_of(range(len(self.pairs)), tokens=tokens, rows=rows, slack=slack)
        return self._packs[key]

    def packs_of(
        self, chosen: Sequence[int], *, tokens: int, rows: int, join: bool = True, slack: int = 0
    ) -> list[Pack]:
        """The same for some of the pairs."""
        return pack_pairs(self.pairs, chosen, tokens=tokens, rows=rows, join=join, slack=slack)


def pack_pairs(
    pairs: Sequence[TokenPair], chosen: Sequence[int], *, tokens: int, rows: int, join: bool = True, slack: int = 0
) -> list[Pack]:
    """A pair reads all its ids but the last; its row at depth d predicts the id at d + 1.

    `join`: endings of one beginning may attend to their common past in one read, each masked from the others. Masks do not stop
    NaN and infinity, so pairs whose score is not finite have to be packed again without. `slack`: as in group_reads.
    """
    if not len(chosen):
        return []
    tree = build_tree([pairs[index].ids[:-1] for index in chosen])
    leaf = dict(zip(chosen, tree.leaf.tolist(), strict=True))
    packs: list[Pack] = []
    current: list[int] = []
    nodes: dict[int, None] = {}
    n_tokens = n_rows = 0
    for index in sorted(chosen, key=lambda index: leaf[index]):
        path = tree.path(leaf[index])
        new = [node for node in path if node not in nodes]
        added = sum(len(tree.nodes[node].tokens) for node in new)
        if current and (n_tokens + added > tokens or n_rows + pairs[index].n_tokens > rows):
            packs.append(_pack(pairs, tree, leaf, current, list(nodes), join, slack))
            current, nodes, n_rows = [], {}, 0
            n_tokens, new = 0, path
            added = sum(len(tree.nodes[node].tokens) for node in new)
        current.append(index)
        nodes |= dict.fromkeys(new)
        n_tokens += added
        n_rows += pairs[index].n_tokens
    packs.append(_pack(pairs, tree, leaf, current, list(nodes), join, slack))
    return packs


def _pack(
    pairs: Sequence[TokenPair],
    tree: PrefixTree,
    leaf: Mapping[int, int],
    chosen: Sequence[int],
    nodes: Sequence[int],
    join: bool,
    slack: int,
) -> Pack:
    start: dict[int, int] = {}
    reads: dict[int, Read] = {}
    offset = 0
    for node in nodes:
        length = len(tree.nodes[node].tokens)
        start[node] = offset
        path = np.concatenate([np.arange(start[n], start[n] + len(tree.nodes[n].tokens)) for n in tree.path(node)])
        first = tree.nodes[node].depth
        reads[node] = path_read(np.arange(offset, offset + length), path, np.arange(first, first + length))
        offset += length
    ids = np.concatenate([tree.nodes[node].tokens for node in nodes]).astype(np.int64)
    depth = np.concatenate([np.arange(tree.nodes[node].depth, tree.nodes[node].end) for node in nodes])
    row_parts, target_parts, pair_parts = [], [], []
    for index in chosen:
        pair = pairs[index]
        first, last = pair.n_context - 1, len(pair.ids) - 1
        for node in tree.path(leaf[index]):
            low, high = max(first, tree.nodes[node].depth), min(last, tree.nodes[node].end)
            if low < high:
                row_parts.append(np.arange(low, high) - tree.nodes[node].depth + start[node])
        target_parts.append(pair.ids[pair.n_context :])
        pair_parts.append(np.full(pair.n_tokens, index))
    row = np.concatenate(row_parts)
    unique, entry = np.unique(row, return_inverse=True)
    order = np.argsort(entry, kind="stable")
    row_reads = _row_reads(reads, unique)
    return Pack(
        ids=ids,
        depth=depth,
        groups=tuple(group_reads(_joined(tree, reads) if join else [*reads.values()], slack=slack)),
        row_groups=tuple(group_reads(_joined(tree, row_reads) if join else [*row_reads.values()], slack=slack)),
        rows=unique,
        entry_row=entry[order],
        target=np.concatenate(target_parts).astype(np.int64)[order],
        pair=np.concatenate(pair_parts)[order],
        n_pairs=len(chosen),
        n_pair_tokens=sum(len(pairs[index].ids) - 1 for index in chosen),
    )


def _row_reads(reads: Mapping[int, Read], rows: Indices) -> dict[int, Read]:
    """The same reads for the predicting rows only, each path up to the last row that is attended to."""
    found = {}
    for node, read in reads.items():
        low, high = np.searchsorted(rows, [read.q[0], read.q[-1] + 1]).tolist()
        if low < high:
            depth = read.depth[rows[low:high] - read.q[0]]
            found[node] = path_read(np.arange(low, high), read.k[: int(depth[-1]) + 1], depth)
    return found


def _joined(tree: PrefixTree, reads: Mapping[int, Read]) -> list[Read]:
    """Leaves of one parent as one read where that costs less, with the parent's own rows before them unless it is causal."""
    inner = {tree.nodes[node].parent for node in reads}
    runs: list[tuple[int, list[Read]]] = []
    base = -1
    for node, read in reads.items():
        parent = tree.nodes[node].parent
        leaf = parent >= 0 and node not in inner
        if leaf and parent == base:
            shared, run = runs[-1]
            if run[-1].q[-1] + 1 == read.q[0] and joining_pays([*run, read], shared=shared):
                run.append(read)
                continue
        if leaf:
            base = parent
            runs.append((tree.nodes[parent].end, [read]))
        else:
            base = node if len(read.k) == tree.nodes[node].end and not is_causal(read) else -1
            runs.append((len(read.k), [read]))
    return [join_reads(run, shared=shared) if len(run) > 1 else run[0] for shared, run in runs]
