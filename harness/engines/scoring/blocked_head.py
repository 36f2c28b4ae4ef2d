"""The output embedding and log-softmax at once, a block of rows and columns at a time: [rows, vocabulary] never exists.

A block of weights is used for many rows while it is in the processor's cache, and its logits never leave it. The log-sum-exp of
a row is that of its blocks' log-sum-exps.
"""

from __future__ import annotations

import torch

from harness.engines.scoring.products import Linear, choose_linear

ROWS = 512
COLUMNS = 8192
CACHED_ROWS = 16
"""Rows of a block that log-sum-exp takes at a time on one thread; with several threads it takes all of them at once."""


def blocked_logprob(
    head: torch.nn.Linear, hidden_RH: torch.Tensor, entry_row: torch.Tensor, target: torch.Tensor, *, greedy: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """log-softmax of each entry's target at its row, shape [E], and whether that target is the row's likeliest.

    `entry_row` is ascending. Logits are computed in the head's dtype and widened to float32 (float64 stays).
    """
    logprob, hits = [], []
    linear = choose_linear(head.weight[:COLUMNS])
    for start in range(0, len(hidden_RH), ROWS):
        low, high = torch.searchsorted(entry_row, torch.tensor([start, start + ROWS])).tolist()
        hidden, row = hidden_RH[start : start + ROWS], entry_row[low:high] - start
        part, hit = _rows(head, linear, hidden, row, target[low:high], greedy)
        logprob.append(part)
        hits.append(hit)
    return torch.cat(logprob), torch.cat(hits) if greedy else None


def _rows(
    head: torch.nn.Linear,
    linear: Linear,
    hidden: torch.Tensor,
    row: torch.Tensor,
    target: torch.Tensor,
    greedy: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    starts = range(0, head.out_features, COLUMNS)
    sums = torch.empty(len(hidden), len(starts), dtype=wide)
    most = torch.full((len(hidden),), float("-inf"), dtype=wide)
    likeliest = torch.zeros(len(hidden), dtype=torch.int64)
    chosen = torch.empty(len(target), dtype=wide)
    step = CACHED_ROWS if torch.get_num_threads() == 1 else len(hidden)
    by_target = torch.argsort(target, stable=True)
    bounds = torch.searchsorted(target[by_target], torch.tensor([*starts, head.out_features])).tolist()
    for index, start in enumerate(starts):
        bias = None if head.bias is None else head.bias[start : start + COLUMNS]
        logits = linear(hidden, head.weight[start : start + COLUMNS], bias).to(wide)
        here = by_target[bounds[index] : bounds[index + 1]]
        if len(here):
            chosen[here] = logits[row[here], target[here] - start]
        for rows in (slice(first, first + step) for first in range(0, len(hidden), step)):
            sums[rows, index] = torch.logsumexp(logits[rows], dim=1)
        if greedy:
            top, at = logits.max(dim=1)
            likeliest = torch.where(top > most, at + start, likeliest)
            most = torch.maximum(most, top)
    return chosen - torch.logsumexp(sums, dim=1)[row], likeliest[row] == target
