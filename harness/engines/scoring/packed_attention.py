"""Attention over a pack: every row sees its own path through the prefix tree.

Registered with transformers' attention interface, so that a stock model's own attention layers call it. The state of the current
forward pass is in the context variable PASS.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from harness.engines.scoring.reads import Group

ATTENTION = "harness_packed"
ENTRIES = frozenset({"s_aux", "position_bias", "cache", "head_mask"})
"""Arguments that some models pass to their attention and that this one does not support."""

ALONE = 32
"""Query rows from which a read gets a call of its own on a CPU."""


class UnsupportedError(Exception):
    """The model needs something that the packed path does not support. The message says what."""


class KeysKnownError(Exception):
    """The last layer's keys and values have been computed; the rest of that pass is not needed."""


Rows = slice | torch.Tensor
"""Rows of a pack: a slice, which is read without a copy, or indices on the device."""


class Loader:
    """Copies index arrays to a device, all in one asynchronous copy."""

    def __init__(self, size: int, device: torch.device) -> None:
        self._device = device
        self._used = 0
        if device.type != "cpu":
            self._here = torch.empty(size, dtype=torch.int64, pin_memory=device.type == "cuda")
            self._there = torch.empty(size, dtype=torch.int64, device=device)

    def __call__(self, array: npt.NDArray[np.int64]) -> torch.Tensor:
        """A tensor of the array's shape that has its content after `send`."""
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self._device.type == "cpu":
            return tensor
        part = slice(self._used, self._used + array.size)
        self._used = part.stop
        self._here[part] = tensor.view(-1)
        return self._there[part].view(array.shape)

    def send(self) -> None:
        """Start the copy that fills all tensors returned so far."""
        if self._device.type != "cpu":
            self._there[: self._used].copy_(self._here[: self._used], non_blocking=True)


class Call:
    """One attention call: a group's rows, and its masks, made when a layer first asks."""

    def __init__(self, group: Group, load: Loader) -> None:
        self.q = _rows(group.q, load)
        self.k = _rows(group.k, load)
        self.depth = load(group.depth)
        self.k_depth = load(group.k_depth)
        joined = bool(group.k_branch.any())
        self.branches = (load(group.branch), load(group.k_branch)) if joined else None
        self.real = None if group.real.all() else load(np.flatnonzero(group.real))
        self.rows = self.q if self.real is None else load(group.q[group.real])
        self.causal = group.causal
        self._masks: dict[tuple[int | None, torch.dtype], torch.Tensor] = {}

    def mask(self, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """Shape [B, 1, Lq, Lk], to be added: minus infinity where a row may not look. Made once, not in every layer."""
        if (window, dtype) not in self._masks:
            allowed = self.k_depth[:, None] <= self.depth[:, :, None]
            if self.branches is not None:
                branch, k_branch = self.branches
                allowed &= (k_branch[:, None] == 0) | (k_branch[:, None] == branch[:, :, None])
            if window is not None:
                allowed &= self.k_depth[:, None] > self.depth[:, :, None] - window
            # Rows of a multiple of 8: a fused kernel on a GPU would copy any other mask, at every call.
            n_keys = allowed.shape[-1]
            mask = allowed.new_zeros((*allowed.shape[:2], -(-n_keys // 8) * 8), dtype=dtype)[..., :n_keys]
            self._masks[window, dtype] = mask.masked_fill_(~allowed, float("-inf"))[:, None]
        return self._masks[window, dtype]


def calls(groups: Sequence[Group], device: torch.device) -> list[Call]:
    """An attention call per group; on a CPU one per read of at least ALONE rows, since a call costs less there than copies and padding."""
    found: list[Group] = []
    for group in groups:
        apart = device.type == "cpu" and len(group.q) > 1 and int(group.real.sum(axis=1).min()) >= ALONE
        found += group.apart() if apart else [group]
    load = Loader(sum(5 * group.q.size + 3 * group.k.size for group in found), device)
    made = [Call(group, load) for group in found]
    load.send()
    return made


def _rows(rows: npt.NDArray[np.int64], load: Loader) -> Rows:
    if len(rows) == 1 and bool((np.diff(rows[0]) == 1).all()):
        return slice(int(rows[0, 0]), int(rows[0, -1]) + 1)
    return load(rows.reshape(-1))


def on_device(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """An asynchronous copy to the device, from pinned memory for a GPU."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


@dataclass(slots=True)
class Pass:
    """The state of the current forward pass, for the attention function."""

    calls: list[Call]
    row_calls: list[Call]
    n_rows: int
    n_tokens: int
    keys: tuple[torch.Tensor, torch.Tensor] | None = None
    stage: str = "all"
    """`all` rows are computed; `keys` of the last layer are wanted; `rows` that predict are computed."""


PASS: ContextVar[Pass] = ContextVar("harness_pass")


def attention(
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
    """Every row attends to its own path. `query` has shape [1, heads, T, D]; the result [1, T, heads, D].

    Raises UnsupportedError.
    """
    current = PASS.get()
    for name in ENTRIES & kwargs.keys():
        if kwargs[name] is not None:
            raise UnsupportedError(f"attention with {name}")
    if attention_mask is not None:
        raise UnsupportedError("an attention mask of its own")
    if current.stage == "keys":
        current.keys = (key, value)
        raise KeysKnownError
    todo = current.calls
    if current.stage == "rows":
        assert current.keys is not None
        key, value = current.keys
        todo = current.row_calls
    if query.shape[0] != 1:
        raise UnsupportedError("a batch dimension that is not 1")
    n_queries = current.n_rows if current.stage == "rows" else current.n_tokens
    if (query.shape[2], key.shape[2]) != (n_queries, current.n_tokens):
        raise UnsupportedError("attention to tokens that the pack does not hold")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = query.new_empty(query.shape[2], query.shape[1], value.shape[-1])
    for call in todo:
        n = len(call.depth)
        q, k, v = _take(query, call.q, n), _take(key, call.k, n), _take(value, call.k, n)
        seen = _attend(q, k, v, call, scale, sliding_window, softcap).transpose(1, 2).flatten(0, 1)
        if call.real is not None:
            seen = seen.index_select(0, call.real)
        if isinstance(call.rows, slice):
            out[call.rows] = seen
        else:
            out.index_copy_(0, call.rows, seen)
    return out[None], None


def _take(tensor: torch.Tensor, rows: Rows, n: int) -> torch.Tensor:
    """Rows of [1, heads, T, D] as [n, heads, len(rows) / n, D].

    Copies are laid out token by token in memory, as projections are.
    """
    if isinstance(rows, slice):
        return tensor[:, :, rows]
    taken = tensor[0].transpose(0, 1).index_select(0, rows)
    return taken.view(n, -1, *taken.shape[1:]).transpose(1, 2)


def _takes_shared(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, causal: bool) -> bool:
    """Whether a fused kernel supports grouped-query attention without copies of the keys: on a GPU that depends on types and mask."""
    if q.device.type != "cuda":
        return q.device.type == "cpu" or mask is None
    backends: Any = torch.backends.cuda
    asked = backends.SDPAParams(q, k, v, mask, 0.0, causal, True)
    return bool(backends.can_use_flash_attention(asked) or backends.can_use_efficient_attention(asked))


def _attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    call: Call,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """Shape [B, heads, Lq, D]."""
    groups = q.shape[1] // k.shape[1]
    window = window if window is not None and k.shape[2] > window else None
    causal = call.causal and window is None and softcap is None
    mask = None if causal else call.mask(window, q.dtype)
    shared = groups > 1 and softcap is None and _takes_shared(q, k, v, mask, causal)
    if groups > 1 and not shared:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    if softcap is None:
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal and q.shape[2] > 1, scale=scale, enable_gqa=shared
        )
    assert mask is not None
    weights = torch.tanh(q @ k.transpose(2, 3) * scale / softcap) * softcap
    return torch.softmax(weights + mask, dim=-1, dtype=torch.float32).to(q.dtype) @ v
