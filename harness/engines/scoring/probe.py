"""Runs one sequence through a model's own code and records every call of its attention: whether the masks are the ones that its
arguments describe, and whether every decoder layer calls attention exactly once.

The result does not depend on the weights. Masks are compared at the sequence's length, so a longer sliding window is not seen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch

PROBE = "harness_probe"


@dataclass(slots=True)
class Seen:
    """What was observed of the attention in one forward pass. `problem`: why the packed path cannot replace it, None if it can."""

    n_calls: int = 0
    problem: str | None = None
    looks_ahead: bool = False
    """A row sees a later one."""
    _told: dict[int | None, torch.Tensor] = field(default_factory=dict)

    def told(self, n: int, window: int | None) -> torch.Tensor:
        """The mask that the arguments describe: each row sees itself and the rows before, `window` in all at most. Shape [n, n]."""
        if window not in self._told:
            row = torch.arange(n)
            mask = row[None, :] <= row[:, None]
            self._told[window] = mask if window is None else mask & (row[None, :] > row[:, None] - window)
        return self._told[window]


SEEN: ContextVar[Seen] = ContextVar("harness_seen")


def probe(model: Any, ids: torch.Tensor, n_layers: int) -> Seen:
    """Observe the model's attention over `ids`, shape [1, T]. Raises whatever the model's own code raises."""
    seen = Seen()
    token = SEEN.set(seen)
    try:
        with _watched(model):
            positions = torch.arange(ids.shape[1], device=ids.device)[None]
            model(input_ids=ids, position_ids=positions, use_cache=False)
    finally:
        SEEN.reset(token)
    if seen.problem is None and seen.n_calls != n_layers:
        seen.problem = f"{n_layers} layers call attention {seen.n_calls} times"
    return seen


@contextlib.contextmanager
def _watched(model: Any) -> Iterator[None]:
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(PROBE, _attention)
    AttentionMaskInterface.register(PROBE, _mask)
    with implementation(model, PROBE):
        yield


@contextlib.contextmanager
def implementation(model: Any, name: str) -> Iterator[set[str]]:
    """Within the block every part of the model uses transformers' attention `name`. Yields the names that were set before."""
    found: list[Any] = [getattr(module, "config", None) for module in model.modules()]
    configs = {id(config): config for config in found if hasattr(config, "_attn_implementation_internal")}
    before = {key: config._attn_implementation_internal for key, config in configs.items()}
    try:
        for config in configs.values():
            config._attn_implementation_internal = name
        yield set(before.values())
    finally:
        for key, config in configs.items():
            config._attn_implementation_internal = before[key]


def _mask(**given: Any) -> torch.Tensor:
    """The mask that transformers would make, always written out: True where a row looks, shape [1, 1, T, T]."""
    from transformers.masking_utils import sdpa_mask

    mask: torch.Tensor = sdpa_mask(**{**given, "allow_is_causal_skip": False})
    return mask


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Compares the mask with what the other arguments describe. Returns zeros."""
    seen = SEEN.get()
    seen.n_calls += 1
    n = query.shape[2]
    if key.shape[2] != n:
        seen.problem = "attention to tokens that the sequence does not hold"
    elif attention_mask is None:
        seen.looks_ahead |= getattr(module, "is_causal", True) is False
    elif attention_mask.dtype != torch.bool or attention_mask.shape[-2:] != (n, n):
        seen.problem = "its attention is given a mask of its own"
    elif bool(attention_mask.triu(1).any()):
        seen.looks_ahead = True
    elif not bool((attention_mask == seen.told(n, sliding_window).to(query.device)).all()):
        seen.problem = "its mask is not the one that its attention is told of"
    return value.new_zeros(1, n, query.shape[1], value.shape[-1]), None
