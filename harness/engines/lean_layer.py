"""Decoder layers of the Llama kind with less traffic to memory, for scoring on a CPU in float32.

The arithmetic of the stock layer, in fewer passes: a matrix product adds its result to the residual stream, results go to
buffers that are there already, elementwise work is done a block of rows at a time, which stays in the processor's cache. The
last layer's queries are computed for predicting rows only. Stock code is needed for nothing but these layers' weights, so
only classes whose code is known are taken; whether the result is right is tried all the same (torch_logprob.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from harness.engines.packed_attention import PASS, KeysKnownError, attention
from harness.engines.products import choose_linear

KINDS = ("Llama", "Mistral", "Qwen2", "Qwen3")
"""Whose decoder layers are pre-norm, rotary, gated by SiLU, with the submodules' names of Llama."""
BLOCK = 2**17
"""Elements of each operand that elementwise work takes at a time on one thread: 512 KiB in float32."""

Table = tuple[torch.Tensor, torch.Tensor]
"""Cosine and sine of every row's angles, shapes [T, 1, D / 2]."""


class Buffers:
    """Memory by name, kept from layer to layer and from pack to pack."""

    def __init__(self) -> None:
        self._kept: dict[str, torch.Tensor] = {}

    def take(self, name: str, rows: int, columns: int) -> torch.Tensor:
        """Shape [rows, columns], with whatever was there."""
        size = rows * columns
        if name not in self._kept or self._kept[name].numel() < size:
            self._kept[name] = torch.empty(size, dtype=torch.float32)
        return self._kept[name][:size].view(rows, columns)


@contextlib.contextmanager
def lean_layers(model: Any) -> Iterator[None]:
    """Layers of a known kind run as here inside, as before afterwards."""
    changed = []
    buffers = Buffers()
    try:
        for module in model.modules():
            if is_known(module):
                module.__dict__["forward"] = _LeanLayer(module, buffers)
                changed.append(module)
        yield
    finally:
        for module in changed:
            del module.__dict__["forward"]


def is_known(module: Any) -> bool:
    """A decoder layer of a known kind on a CPU, every part of it as its class made it."""
    kind = _kind(module)
    if kind is None or "forward" in module.__dict__:
        return False
    attn, mlp = module.self_attn, module.mlp
    norms = [module.input_layernorm, module.post_attention_layernorm]
    norms += [attn.q_norm, attn.k_norm] if kind == "Qwen3" else []
    parts = [(attn, f"{kind}Attention"), (mlp, f"{kind}MLP"), *((norm, f"{kind}RMSNorm") for norm in norms)]
    weights = [parameter for parameter in module.parameters() if parameter.is_floating_point()]
    return (
        all(type(part).__name__ == name and type(part).__module__ == type(module).__module__ for part, name in parts)
        and type(mlp.act_fn).__name__ in ("SiLUActivation", "SiLU")
        and all(_untouched(part) for part in (attn, mlp, mlp.act_fn, *norms))
        and len({weight.dtype for weight in weights}) == 1
        and weights[0].dtype == torch.float32
        and all(weight.device.type == "cpu" for weight in weights)
    )


def _kind(module: Any) -> str | None:
    for kind in KINDS:
        if type(module).__name__ == f"{kind}DecoderLayer":
            home = f"transformers.models.{kind.lower()}.modeling_{kind.lower()}"
            return kind if type(module).__module__ == home else None
    return None


def _untouched(module: Any) -> bool:
    return not ("forward" in module.__dict__ or module._forward_hooks or module._forward_pre_hooks)


class _Projection:
    """A linear module, multiplied with directly where nothing was done to it; an adapter's is called."""

    def __init__(self, module: Any) -> None:
        plain = type(module) is torch.nn.Linear and _untouched(module)
        self.direct = plain and choose_linear(module.weight) is F.linear
        self.module = module

    def into(self, x: torch.Tensor, buffers: Buffers, name: str) -> torch.Tensor:
        """Shape [rows, out]."""
        if not self.direct:
            result: torch.Tensor = self.module(x[None])[0]
            return result
        weight, bias = self.module.weight, self.module.bias
        out = buffers.take(name, len(x), len(weight))
        return torch.mm(x, weight.t(), out=out) if bias is None else torch.addmm(bias, x, weight.t(), out=out)

    def add_to(self, residual: torch.Tensor, x: torch.Tensor) -> None:
        """Add the result to `residual`, shape [rows, out]."""
        if not self.direct:
            residual.add_(self.module(x[None])[0])
            return
        residual.addmm_(x, self.module.weight.t())
        if self.module.bias is not None:
            residual.add_(self.module.bias)


class _LeanLayer:
    """The forward of one decoder layer."""

    def __init__(self, layer: Any, buffers: Buffers) -> None:
        attn, mlp = layer.self_attn, layer.mlp
        self._attn = attn
        self._buffers = buffers
        self._norms = layer.input_layernorm, layer.post_attention_layernorm
        self._head_norms = (attn.q_norm, attn.k_norm) if hasattr(attn, "q_norm") else (None, None)
        self._q, self._k, self._v, self._o = map(_Projection, (attn.q_proj, attn.k_proj, attn.v_proj, attn.o_proj))
        self._gate, self._up, self._down = map(_Projection, (mlp.gate_proj, mlp.up_proj, mlp.down_proj))
        self._window: int | None = (
            attn.sliding_window if hasattr(attn, "sliding_window") else getattr(attn.config, "sliding_window", None)
        )

    def __call__(
        self,
        hidden_states: torch.Tensor,
        attention_mask: Any = None,
        *,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        **_given: Any,
    ) -> torch.Tensor:
        """`hidden_states` and the result have shape [1, T, H]."""
        residual = self._own(hidden_states[0])
        current = PASS.get()
        normed = self._buffers.take("normed", *residual.shape)
        rms_norm(residual, self._norms[0], normed)
        half = self._attn.head_dim // 2
        table = position_embeddings[0][0, :, None, :half], position_embeddings[1][0, :, None, :half]
        if current.stage == "rows":
            assert current.keys is not None
            key, value = current.keys
        else:
            key = self._heads(self._k, "key", normed, self._head_norms[1], table)
            value = self._heads(self._v, "value", normed, None, None)
        if current.stage == "keys":
            current.keys = key, value
            raise KeysKnownError
        query = self._heads(self._q, "query", normed, self._head_norms[0], table)
        seen, _ = attention(
            self._attn,
            query,
            key,
            value,
            attention_mask,
            scaling=self._attn.scaling,
            sliding_window=self._window,
        )
        self._o.add_to(residual, seen[0].flatten(1))
        rms_norm(residual, self._norms[1], normed)
        gate = self._gate.into(normed, self._buffers, "gate")
        gated(gate, self._up.into(normed, self._buffers, "up"))
        self._down.add_to(residual, gate)
        return residual[None]

    def _own(self, hidden: torch.Tensor) -> torch.Tensor:
        """The residual stream, where it may be written to: the layer before left it there, or it is copied."""
        own = self._buffers.take("residual", *hidden.shape)
        return own if own.data_ptr() == hidden.data_ptr() else own.copy_(hidden)

    def _heads(
        self, projection: _Projection, name: str, x: torch.Tensor, norm: Any, table: Table | None
    ) -> torch.Tensor:
        """Shape [1, heads, T, D], a view of [T, heads * D]."""
        heads = projection.into(x, self._buffers, name).view(len(x), -1, self._attn.head_dim)
        if norm is not None:
            rms_norm(heads, norm, heads)
        if table is not None:
            rotate(heads, table)
        return heads.transpose(0, 1)[None]


def _blocks(tensor: torch.Tensor) -> Iterator[slice]:
    """Rows that elementwise work takes at a time. Several threads take all: what they share out must be worth their waking up."""
    whole = torch.get_num_threads() > 1
    rows = max(1, len(tensor) if whole else BLOCK * len(tensor) // max(1, tensor.numel()))
    return (slice(start, start + rows) for start in range(0, len(tensor), rows))


def rms_norm(x: torch.Tensor, norm: Any, out: torch.Tensor) -> None:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, into `out`, which may be x (arXiv 1910.07467)."""
    for rows in _blocks(x):
        part = x[rows]
        scale = torch.linalg.vector_norm(part, dim=-1, keepdim=True)
        scale.square_().div_(x.shape[-1]).add_(norm.variance_epsilon).rsqrt_()
        torch.mul(part, scale, out=out[rows]).mul_(norm.weight)


def rotate(heads: torch.Tensor, table: Table) -> None:
    """Rotary positions in place, first half of each head against the second (arXiv 2104.09864). Shape [T, heads, D]."""
    first, second = heads.chunk(2, dim=-1)
    for rows in _blocks(heads):
        a, b, cos, sin = first[rows], second[rows], table[0][rows], table[1][rows]
        turned = torch.mul(a, cos).addcmul_(b, sin, value=-1)
        b.mul_(cos).addcmul_(a, sin)
        a.copy_(turned)


def gated(gate: torch.Tensor, up: torch.Tensor) -> None:
    """silu(gate) * up, in the place of `gate`."""
    for rows in _blocks(gate):
        F.silu(gate[rows], inplace=True).mul_(up[rows])
