"""Decoder layers of the Llama kind with less traffic to memory and fewer operations.

The arithmetic of the stock layer, in fewer passes: a matrix product adds its result to the residual stream, results go to
buffers that are there already, a norm is one kernel on a GPU, and on a CPU elementwise work is done a block of rows at a time,
which stays in the processor's cache. The last layer's queries are computed for predicting rows only. In half precision an
intermediate result is rounded less often than in stock code, never more often.

Only the weights of the stock layers are used, so only classes whose code is known are replaced; the result is still tried for each
kind of model (recipe.py) and proved for each checkpoint (proof.py).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from harness.engines.scoring.packed_attention import PASS, KeysKnownError, UnsupportedError, attention
from harness.engines.scoring.products import choose_linear

_everywhere: Any = torch.nn.modules.module
KINDS = ("Llama", "Mistral", "Qwen2", "Qwen3")
"""Model families whose decoder layers are pre-norm, rotary, gated by SiLU, with the submodules' names of Llama."""
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BLOCK = 2**17
"""Elements of each operand that elementwise work takes at a time on one thread: 512 KiB in float32."""

Table = tuple[torch.Tensor, torch.Tensor]
"""Cosine and sine of every row's angles, shapes [T, 1, D / 2]."""


class Buffers:
    """Memory by name, type and place, kept from layer to layer and from pack to pack."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, torch.dtype, torch.device], torch.Tensor] = {}

    def take(self, name: str, rows: int, columns: int, like: torch.Tensor) -> torch.Tensor:
        """A buffer of shape [rows, columns], not initialised."""
        size, key = rows * columns, (name, like.dtype, like.device)
        if key not in self._kept or self._kept[key].numel() < size:
            self._kept[key] = like.new_empty(size)
        return self._kept[key][:size].view(rows, columns)

    def clear(self) -> None:
        """Free the memory."""
        self._kept.clear()


@contextlib.contextmanager
def lean_layers(model: Any, buffers: Buffers) -> Iterator[None]:
    """Within the block, layers of a known kind run this module's code."""
    changed = []
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
    """Whether a module is a decoder layer of a known kind, on one device, with no part replaced."""
    kind = _kind(module)
    # A hook may keep a reference to its input or output, whose buffer is overwritten later.
    if kind is None or any(part._forward_hooks or part._forward_pre_hooks for part in module.modules()):
        return False
    attn, mlp = module.self_attn, module.mlp
    if (type(attn).__name__, type(mlp).__name__) != (f"{kind}Attention", f"{kind}MLP"):
        return False  # another module, which may have no such parts
    norms = [module.input_layernorm, module.post_attention_layernorm]
    norms += [attn.q_norm, attn.k_norm] if kind == "Qwen3" else []
    parts = [(attn, f"{kind}Attention"), (mlp, f"{kind}MLP"), *((norm, f"{kind}RMSNorm") for norm in norms)]
    dtype = norms[0].weight.dtype
    projections = (attn.q_proj, attn.k_proj, attn.v_proj, attn.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
    plain = [projection.weight for projection in projections if type(projection) is torch.nn.Linear]
    return (
        _written_by_transformers(type(module), *(type(part) for part, _ in parts))
        and not _everywhere._has_any_global_hook()
        and all(
            type(part).__name__ == name and type(part).__module__ == type(module).__module__ for part, name in parts
        )
        and type(mlp.act_fn).__name__ in ("SiLUActivation", "SiLU")
        and not any("forward" in part.__dict__ for part in (module, attn, mlp, mlp.act_fn, *norms))
        and dtype in DTYPES
        and all(weight.dtype == dtype for weight in (*plain, *(norm.weight for norm in norms)))
        and len({parameter.device for parameter in module.parameters()}) == 1
    )


def _written_by_transformers(layer: Any, *parts: Any) -> bool:
    """Whether the layer's classes and `apply_rotary_pos_emb` run transformers' own code (are not monkeypatched)."""
    home: Any = sys.modules[layer.__module__]
    found: list[Any] = [home.apply_rotary_pos_emb, home.rotate_half, *(part.forward for part in (layer, *parts))]
    while found:
        function = found.pop()
        if not getattr(function, "__globals__", {"__name__": ""})["__name__"].startswith("transformers."):
            return False
        found += [function.__wrapped__] if hasattr(function, "__wrapped__") else []
    return True


def _kind(module: Any) -> str | None:
    for kind in KINDS:
        if type(module).__name__ == f"{kind}DecoderLayer":
            home = f"transformers.models.{kind.lower()}.modeling_{kind.lower()}"
            return kind if type(module).__module__ == home else None
    return None


class _Projection:
    """A linear module: a plain one is multiplied with directly, any other (an adapter's) is called."""

    def __init__(self, module: Any) -> None:
        plain = type(module) is torch.nn.Linear and "forward" not in module.__dict__
        own = plain and type(module.weight) is torch.nn.Parameter  # and no sharded or quantised kind of tensor
        self.direct = own and choose_linear(module.weight) is F.linear
        self.module = module

    def into(self, x: torch.Tensor, buffers: Buffers, name: str) -> torch.Tensor:
        """Shape [rows, out]."""
        if not self.direct:
            result: torch.Tensor = self.module(x[None])[0]
            return result
        weight, bias = self.module.weight, self.module.bias
        out = buffers.take(name, len(x), len(weight), x)
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
        # Where the class reads it: Mistral from the configuration, Qwen for each layer, Llama nowhere.
        owner = attn.config if type(attn).__name__ == "MistralAttention" else attn
        self._window: int | None = getattr(owner, "sliding_window", None)

    def __call__(
        self,
        hidden_states: torch.Tensor,
        attention_mask: Any = None,
        *,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        past_key_values: Any = None,
        **_given: Any,
    ) -> torch.Tensor:
        """`hidden_states` and the result have shape [1, T, H]."""
        if len(hidden_states) != 1 or past_key_values is not None:
            raise UnsupportedError("a batch dimension that is not 1, or keys from before")
        residual = self._own(hidden_states[0])
        current = PASS.get()
        buffer = self._buffers.take("normed", len(residual), residual.shape[1], residual)
        normed = rms_norm(residual, self._norms[0], buffer)
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
        normed = rms_norm(residual, self._norms[1], buffer)
        gate = self._gate.into(normed, self._buffers, "gate")
        gated(gate, self._up.into(normed, self._buffers, "up"))
        self._down.add_to(residual, gate)
        return residual[None]

    def _own(self, hidden: torch.Tensor) -> torch.Tensor:
        """The residual stream, where it may be written to: the layer before left it there, or it is copied."""
        own = self._buffers.take("residual", len(hidden), hidden.shape[1], hidden)
        return own if own.data_ptr() == hidden.data_ptr() else own.copy_(hidden)

    def _heads(
        self, projection: _Projection, name: str, x: torch.Tensor, norm: Any, table: Table | None
    ) -> torch.Tensor:
        """Shape [1, heads, T, D], a view of [T, heads * D]."""
        heads = projection.into(x, self._buffers, name).view(len(x), -1, self._attn.head_dim)
        if norm is not None:
            heads = rms_norm(heads, norm, heads)
        if table is not None:
            rotate(heads, table)
        return heads.transpose(0, 1)[None]


def _blocks(tensor: torch.Tensor) -> Iterator[slice]:
    """Rows that elementwise work takes at a time: all of them on a GPU or with several threads, which need large pieces of work."""
    whole = tensor.device.type != "cpu" or torch.get_num_threads() > 1
    rows = max(1, len(tensor) if whole else BLOCK * len(tensor) // max(1, tensor.numel()))
    return (slice(start, start + rows) for start in range(0, len(tensor), rows))


def rms_norm(x: torch.Tensor, norm: Any, buffer: torch.Tensor) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension (arXiv 1910.07467), computed in float32.

    On a CPU in `buffer`, which may be x.
    """
    if x.device.type != "cpu":
        return F.rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon)
    for rows in _blocks(x):
        part = x[rows].float()
        scale = torch.linalg.vector_norm(part, dim=-1, keepdim=True)
        scale.square_().div_(x.shape[-1]).add_(norm.variance_epsilon).rsqrt_()
        torch.mul(part, scale, out=buffer[rows]).mul_(norm.weight)
    return buffer


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
