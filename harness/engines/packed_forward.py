"""A stock transformers causal LM over packs: attention follows the prefix tree, the last layer and the head see only
the rows that predict something.

The model's own code runs. Its attention is replaced through transformers' attention interface, its last decoder layer is
given fewer rows by a hook, and both are as before afterwards. Whether a model allows it is not known here but tried
(recipe.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from harness.engines.packs import Pack
from harness.engines.products import chosen_products
from harness.engines.reads import Group

ATTENTION = "harness_packed"
ENTRIES = frozenset({"s_aux", "position_bias", "cache", "head_mask"})
"""What some attentions are given that this one does not do."""


class UnsupportedError(Exception):
    """The model asks for something the packed path does not do. Says what."""


class _KeysKnownError(Exception):
    """The last layer's keys and values have been computed; the rest of that pass is not needed."""


class _Call:
    """One attention call: a group's indices on the device, and its masks, made when a layer first asks."""

    def __init__(self, group: Group, device: torch.device) -> None:
        self.shape = group.q.shape
        self.n_keys = group.k.shape[1]
        self.q = on_device(group.q.reshape(-1), device)
        self.k = on_device(group.k.reshape(-1), device)
        self.depth = on_device(group.depth, device)
        self.k_depth = on_device(group.k_depth, device)
        joined = bool(group.k_branch.any())
        self.branches = (on_device(group.branch, device), on_device(group.k_branch, device)) if joined else None
        self.real = None if group.real.all() else on_device(np.flatnonzero(group.real), device)
        self.rows = on_device(group.q[group.real], device)
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
            mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
            self._masks[window, dtype] = mask.masked_fill_(~allowed, float("-inf"))[:, None]
        return self._masks[window, dtype]


def on_device(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """A copy that the host does not wait for: a GPU reads it from pinned memory."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


@dataclass(slots=True)
class _Pass:
    """What the attention function needs to know about the forward pass that is under way."""

    calls: list[_Call]
    row_calls: list[_Call]
    keys: tuple[torch.Tensor, torch.Tensor] | None = None
    stage: str = "all"
    """`all` rows are computed; `keys` of the last layer are wanted; `rows` that predict are computed."""


_PASS: ContextVar[_Pass] = ContextVar("harness_pass")


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
    """Every row attends to its own path. `query` has shape [1, heads, T, D]; the result [1, T, heads, D]."""
    current = _PASS.get()
    for name in ENTRIES & kwargs.keys():
        if kwargs[name] is not None:
            raise UnsupportedError(f"attention with {name}")
    if attention_mask is not None:
        raise UnsupportedError("an attention mask of its own")
    if current.stage == "keys":
        current.keys = (key, value)
        raise _KeysKnownError
    calls = current.calls
    if current.stage == "rows":
        assert current.keys is not None
        key, value = current.keys
        calls = current.row_calls
    if query.shape[0] != 1:
        raise UnsupportedError("a batch dimension that is not 1")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = query.new_empty(query.shape[2], query.shape[1], value.shape[-1])
    for call in calls:
        q, k, v = (
            _take(query, call.q, len(call.depth)),
            _take(key, call.k, len(call.depth)),
            _take(value, call.k, len(call.depth)),
        )
        seen = _attend(q, k, v, call, scale, sliding_window, softcap).transpose(1, 2).flatten(0, 1)
        out[call.rows] = seen if call.real is None else seen[call.real]
    return out[None], None


def _take(tensor: torch.Tensor, rows: torch.Tensor, n: int) -> torch.Tensor:
    """Rows of [1, heads, T, D] as [n, heads, len(rows) / n, D]. Projections lie in memory token by token, so do copies."""
    taken = tensor[0].transpose(0, 1).index_select(0, rows)
    return taken.view(n, -1, *taken.shape[1:]).transpose(1, 2)


def _attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    call: _Call,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """Shape [B, heads, Lq, D]."""
    groups = q.shape[1] // k.shape[1]
    window = window if window is not None and call.n_keys > window else None
    causal = call.causal and window is None and softcap is None
    mask = None if causal else call.mask(window, q.dtype)
    shared = groups > 1 and softcap is None and (mask is None or q.device.type == "cpu")
    if groups > 1 and not shared:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    if softcap is None:
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal and q.shape[2] > 1, scale=scale, enable_gqa=shared
        )
    assert mask is not None
    weights = torch.tanh(q @ k.transpose(2, 3) * scale / softcap) * softcap
    return torch.softmax(weights + mask, dim=-1, dtype=torch.float32).to(q.dtype) @ v


@dataclass(frozen=True, slots=True)
class Recipe:
    """How much of the packed path a model allows."""

    narrow_last: bool
    """The last decoder layer may be given only the rows that predict something."""
    plain_head: bool
    """The logits are what the output embedding makes of the last hidden states, nothing more."""


class PackedModel:
    """A model prepared for packs; use it inside its `with` block."""

    def __init__(self, model: Any, recipe: Recipe) -> None:
        self.model = model
        self.recipe = recipe
        self.head: torch.nn.Module = model.get_output_embeddings()
        self._hidden: torch.Tensor | None = None
        self._rows: torch.Tensor | None = None
        self._width = 0

    def __call__(self, pack: Pack, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """(hidden, logits) at the pack's rows: shapes [R, H] and [R, V]; with a plain head, logits of the first row only."""
        self._rows = on_device(pack.rows, device)
        self._width = len(pack.ids)
        token = _PASS.set(
            _Pass(
                calls=[_Call(group, device) for group in pack.groups],
                row_calls=[_Call(group, device) for group in pack.row_groups],
            )
        )
        try:
            ids = on_device(pack.ids, device)[None]
            depth = on_device(pack.depth, device)[None]
            logits = self.model(input_ids=ids, position_ids=depth, use_cache=False).logits
        finally:
            _PASS.reset(token)
        if self._hidden is None:
            raise UnsupportedError("an output embedding that is not called")
        hidden, self._hidden = self._hidden, None
        return hidden, logits[0]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """What a plain head makes of hidden states of shape [R, H]; shape [R, V]. Hooks on the head are not run."""
        logits: torch.Tensor = self.head.forward(hidden[None])[0]
        return logits

    @contextlib.contextmanager
    def prepared(self) -> Iterator[PackedModel]:
        """Attention and hooks in place; everything as before afterwards."""
        from transformers import AttentionInterface

        AttentionInterface.register(ATTENTION, attention)
        found: list[Any] = [getattr(module, "config", None) for module in self.model.modules()]
        configs = {id(config): config for config in found if hasattr(config, "_attn_implementation_internal")}
        before = {key: config._attn_implementation_internal for key, config in configs.items()}
        handles = [self.head.register_forward_pre_hook(self._before_head)]
        if self.recipe.narrow_last:
            handles.append(last_layer(self.model).register_forward_pre_hook(self._before_last, with_kwargs=True))
        try:
            for config in configs.values():
                config._attn_implementation_internal = ATTENTION
            with chosen_products(self.model):
                yield self
        finally:
            for handle in handles:
                handle.remove()
            for key, config in configs.items():
                config._attn_implementation_internal = before[key]

    def _before_last(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Compute the last layer's keys over all rows, then let it go on with the predicting rows only."""
        current = _PASS.get()
        current.stage = "keys"
        with contextlib.suppress(_KeysKnownError):
            module.forward(*args, **kwargs)
        current.stage = "rows"
        return _narrow(args, self._rows, self._width), _narrow(kwargs, self._rows, self._width)

    def _before_head(self, module: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if not inputs:
            raise UnsupportedError("an output embedding without positional input")
        hidden = inputs[0] if self.recipe.narrow_last else inputs[0][:, self._rows]
        self._hidden = hidden[0]
        return (hidden[:, :1] if self.recipe.plain_head else hidden, *inputs[1:])


def last_layer(model: Any) -> Any:
    """The last decoder layer. Raises UnsupportedError."""
    depth = getattr(getattr(model.config, "text_config", None) or model.config, "num_hidden_layers", None)
    stacks = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == depth]
    if not stacks:
        raise UnsupportedError("no list of decoder layers")
    return max(stacks, key=lambda stack: sum(p.numel() for p in stack.parameters()))[-1]


def _narrow(value: Any, rows: Any, width: int) -> Any:
    """Everything that has one entry per token, at the given rows."""
    if isinstance(value, torch.Tensor):
        if value.dim() >= 2 and value.shape[:2] == (1, width):
            return value[:, rows]
        return value[rows] if value.dim() == 1 and len(value) == width else value
    if isinstance(value, tuple | list):
        return type(value)(_narrow(item, rows, width) for item in value)
    if isinstance(value, dict):
        return {key: _narrow(item, rows, width) for key, item in value.items()}
    return value
