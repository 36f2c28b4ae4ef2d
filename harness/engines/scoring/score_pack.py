"""One pack's entries from a prepared model, and their sums per pair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from harness.engines.scoring.blocked_head import blocked_logprob
from harness.engines.scoring.packed_attention import on_device
from harness.engines.scoring.packed_forward import PackedModel
from harness.engines.scoring.packs import Pack
from harness.engines.scoring.scores import Scores

CHUNK_LOGITS = {"cpu": 2**22, "cuda": 2**28}
"""Logits held at a time, in elements, where the head can be applied in pieces."""

Done = Sequence[tuple[Pack, torch.Tensor, torch.Tensor | None]]
"""Packs with the log-probs of their entries and whether they were likeliest, still on the device."""


def collect(done: Done, n_pairs: int, *, greedy: bool) -> Scores:
    """Sums per pair, in float64 and in a fixed order; one copy from the device."""
    total = np.zeros(n_pairs, dtype=np.float64)
    likeliest = np.full(n_pairs, greedy)
    if done:
        logprob = torch.cat([entry for _, entry, _ in done]).double().cpu().numpy()
        pair = np.concatenate([pack.pair for pack, _, _ in done])
        np.add.at(total, pair, logprob)
        if greedy:
            hit = torch.cat([entry for _, _, entry in done if entry is not None]).cpu().numpy()
            likeliest[pair[~hit]] = False
    return Scores(total, likeliest)


def score_pack(
    packed: PackedModel, pack: Pack, device: torch.device, *, greedy: bool, kind: str | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-prob of each entry, shape [E], and whether it was the likeliest token.

    `kind`: device type whose budgets apply (default: the device's).
    """
    hidden_RH, logits_RV = packed(pack, device)
    kind = kind or (device.type if device.type in CHUNK_LOGITS else "cuda")
    target = on_device(pack.target, device)
    entry_row = on_device(pack.entry_row, device)
    if packed.recipe.plain_head and kind == "cpu" and packed.linear_head is not None:
        return blocked_logprob(packed.linear_head, hidden_RH, entry_row, target, greedy=greedy)
    step = len(pack.rows)
    if packed.recipe.plain_head:
        step = max(1, CHUNK_LOGITS[kind] // logits_RV.shape[-1])
    starts = range(0, len(pack.rows), step)
    bounds = np.searchsorted(pack.entry_row, [*starts, len(pack.rows)]).tolist()
    parts, hits = [], []
    for index, start in enumerate(starts):
        low, high = bounds[index], bounds[index + 1]
        logits = packed.logits(hidden_RH[start : start + step]) if packed.recipe.plain_head else logits_RV
        at = entry_row[low:high] - start
        # The fused log-softmax makes two passes over the logits, logsumexp five.
        logprob = torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), dim=-1)
        parts.append(logprob[at, target[low:high]])
        if greedy:
            hits.append(logits.argmax(dim=-1)[at] == target[low:high])
    return torch.cat(parts), torch.cat(hits) if greedy else None
