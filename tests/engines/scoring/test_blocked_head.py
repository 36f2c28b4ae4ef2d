"""The head in blocks gives what the head as a whole gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.engines.scoring.blocked_head import COLUMNS, ROWS, blocked_logprob


def case(rows: int, vocabulary: int, dtype: torch.dtype, bias: bool, seed: int = 0) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(seed)
    head = torch.nn.Linear(16, vocabulary, bias=bias, dtype=dtype)
    hidden = torch.randn(rows, 16, generator=generator).to(dtype) * 4
    entry_row = torch.arange(rows).repeat_interleave(2)
    target = torch.randint(0, vocabulary, (2 * rows,), generator=generator)
    return head, hidden, entry_row, target


def whole(head: Any, hidden: torch.Tensor, entry_row: torch.Tensor, target: torch.Tensor) -> tuple[Any, Any]:
    logits = head(hidden)
    logprob = torch.log_softmax(logits.double(), dim=1)[entry_row, target]
    return logprob, logits.argmax(dim=1)[entry_row] == target


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("rows", "vocabulary"), [(3, 40), (ROWS + 7, COLUMNS), (30, 3 * COLUMNS + 1)])
@pytest.mark.parametrize("bias", [False, True])
@torch.no_grad()
def test_blocks_equal_the_whole(rows: int, vocabulary: int, dtype: torch.dtype, bias: bool) -> None:
    head, hidden, entry_row, target = case(rows, vocabulary, dtype, bias)
    target[::4] = head(hidden).argmax(dim=1)[::2][: len(target[::4])]
    expected, likeliest = whole(head, hidden, entry_row, target)
    logprob, hits = blocked_logprob(head, hidden, entry_row, target, greedy=True)
    assert logprob.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (logprob.double() - expected).abs().max() < 2e-5
    assert hits is not None and hits.any()
    assert (hits == likeliest).all()
    assert (blocked_logprob(head, hidden, entry_row, target, greedy=False)[0] == logprob).all()


@given(st.integers(0, 2 * COLUMNS), st.sampled_from([float("nan"), float("inf")]))
@torch.no_grad()
def test_a_broken_logit_spoils_its_row_and_no_other(column: int, value: float) -> None:
    head, hidden, entry_row, target = case(6, 2 * COLUMNS + 1, torch.float32, bias=True)
    hidden[:, 0] = 0.0
    hidden[2, 0] = 1.0
    head.weight[column, 0] = value
    hidden[torch.arange(6) != 2, 0] = 0.0
    expected = torch.isfinite(whole(head, hidden, entry_row, target)[0])
    logprob, _ = blocked_logprob(head, hidden, entry_row, target, greedy=False)
    assert not torch.isfinite(logprob)[entry_row == 2].any()
    assert (torch.isfinite(logprob) <= expected).all()


@torch.no_grad()
def test_a_block_of_minus_infinities_counts_nothing() -> None:
    head, hidden, entry_row, target = case(5, 2 * COLUMNS, torch.float32, bias=True)
    head.bias[:COLUMNS] = float("-inf")
    target = target % COLUMNS + COLUMNS
    expected, _ = whole(head, hidden, entry_row, target)
    logprob, _ = blocked_logprob(head, hidden, entry_row, target, greedy=False)
    assert (logprob.double() - expected).abs().max() < 2e-5
