"""A stock transformers causal LM over packs: attention follows the prefix tree, the last layer and the head see only
the rows that predict something.

The model's own code runs. Its attention is replaced through transformers' attention interface, a hook gives its last decoder layer
fewer rows, and both are restored afterwards. Whether a model allows it is found by trial (recipe.py).
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from harness.engines.scoring.lean_layer import Buffers, lean_layers
from harness.engines.scoring.moving_rope import settle
from harness.engines.scoring.packed_attention import (
    ATTENTION,
    PASS,
    KeysKnownError,
    Pass,
    UnsupportedError,
    attention,
    calls,
    on_device,
)
from harness.engines.scoring.packs import Pack
from harness.engines.scoring.probe import implementation
from harness.engines.scoring.products import chosen_products
from harness.engines.scoring.structure import decoder_layers


@dataclass(frozen=True, slots=True)
class Recipe:
    """How much of the packed path a model allows."""

    narrow_last: bool
    """The last decoder layer may be given only the rows that predict something."""
    plain_head: bool
    """The logits are what the output embedding makes of the last hidden states, nothing more."""
    lean: bool = False
    """Layers of a known kind may be computed by our own code (lean_layer.py)."""


class PackedModel:
    """A model prepared for packs; use it inside its `with` block."""

    def __init__(self, model: Any, recipe: Recipe) -> None:
        self.model = model
        self.recipe = recipe
        self.head: torch.nn.Module = model.get_output_embeddings()
        own = type(self.head) is torch.nn.Linear and "forward" not in self.head.__dict__
        self.linear_head: Any = self.head if own else None
        """The head, where it is a linear layer that runs its own code."""
        self.buffers = Buffers()
        self._hidden: torch.Tensor | None = None
        self._rows: torch.Tensor | None = None
        self._width = 0

    def __call__(self, pack: Pack, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """(hidden, logits) at the pack's rows: shapes [R, H] and [R, V]; with a plain head, [0, V]."""
        self._rows = on_device(pack.rows, device)
        self._width = len(pack.ids)
        token = PASS.set(
            Pass(
                calls=calls(pack.groups, device),
                row_calls=calls(pack.row_groups, device),
                n_rows=len(pack.rows),
                n_tokens=len(pack.ids),
            )
        )
        try:
            ids = on_device(pack.ids, device)[None]
            depth = on_device(pack.depth, device)[None]
            settle(self.model)
            logits = self.model(input_ids=ids, position_ids=depth, use_cache=False).logits
        finally:
            PASS.reset(token)
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
        """Within the block attention and hooks are in place. Raises UnsupportedError for attention that is not transformers'."""
        from transformers import AttentionInterface

        AttentionInterface.register(ATTENTION, attention)
        with implementation(self.model, ATTENTION) as before:
            for name in before:
                known: Any = AttentionInterface().get(name)
                known = inspect.unwrap(getattr(known, "func", known))
                if known not in (None, attention) and not getattr(known, "__module__", "").startswith("transformers."):
                    raise UnsupportedError(f"attention of its own, {name}")
            last = last_layer(self.model) if self.recipe.narrow_last else None
            lean = lean_layers(self.model, self.buffers) if self.recipe.lean else contextlib.nullcontext()
            with chosen_products(self.model), lean:  # before our own hooks: a layer with hooks runs its own code
                handles = [self.head.register_forward_pre_hook(self._before_head)]
                if last is not None:
                    handles.append(last.register_forward_pre_hook(self._before_last, with_kwargs=True))
                try:
                    yield self
                finally:
                    for handle in handles:
                        handle.remove()
                    self.buffers.clear()

    def _before_last(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Compute the last layer's keys over all rows, then let it go on with the predicting rows only."""
        current = PASS.get()
        current.stage = "keys"
        with contextlib.suppress(KeysKnownError):
            module.forward(*args, **kwargs)
        current.stage = "rows"
        return _narrow(args, self._rows, self._width), _narrow(kwargs, self._rows, self._width)

    def _before_head(self, module: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if not inputs:
            raise UnsupportedError("an output embedding without positional input")
        hidden = inputs[0] if self.recipe.narrow_last else inputs[0][:, self._rows]
        self._hidden = hidden[0]
        return (hidden[:, :0] if self.recipe.plain_head else hidden, *inputs[1:])


def last_layer(model: Any) -> Any:
    """The last decoder layer. Raises UnsupportedError."""
    layers = decoder_layers(model)
    if not layers:
        raise UnsupportedError("no list of decoder layers")
    return layers[-1]


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
