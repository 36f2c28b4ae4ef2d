"""The agent's two networks: an actor from a history to the next mixture, a critic from a history and a mixture to a value. No learning."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from harness.mixing.domains import FLOOR


class History(nn.Module):
    """States to hidden states through causal decoder layers: the hidden state at step t depends on steps 0 to t alone."""

    def __init__(self, *, size: int, width: int, heads: int, layers: int, steps: int) -> None:
        super().__init__()
        self.enter = nn.Linear(size, width)
        self.places = nn.Embedding(steps, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, states: Tensor) -> Tensor:
        """[B, T, size] to [B, T, width]. Steps beyond `steps` share the last position embedding."""
        length = states.shape[1]
        places = torch.arange(length, device=states.device).clamp(max=self.places.num_embeddings - 1)
        hidden = self.enter(states) + self.places(places)
        later = torch.ones(length, length, dtype=torch.bool, device=states.device).triu(1)
        for layer in self.layers:
            hidden = layer(hidden, src_mask=later)
        found: Tensor = self.norm(hidden)
        return found


class Actor(nn.Module):
    """Two decoder layers, a linear layer, softmax."""

    def __init__(self, *, size: int, n: int, width: int, heads: int, steps: int) -> None:
        super().__init__()
        self.history = History(size=size, width=width, heads=heads, layers=2, steps=steps)
        self.leave = nn.Linear(width, n)

    def forward(self, states: Tensor) -> Tensor:
        """[B, T, size] to rho of the next step, [B, T, N]."""
        found: Tensor = self.leave(self.history(states)).softmax(-1)
        return found


class Critic(nn.Module):
    """One decoder layer over the states; then the mixture is added, and a linear layer gives the value, without a sigmoid.

    A gain has a sign and no bound, so a sigmoid could not represent a loss. The mixture is added after the layer: states contain the
    earlier mixtures already, and all alternatives at a step share one history. Logarithms of its shares, scaled to 0 to 1, are inputs
    too: returns of a domain diminish, and a domain without a share is forgotten, which a linear function of shares cannot represent.
    """

    def __init__(self, *, size: int, n: int, width: int, heads: int, steps: int) -> None:
        super().__init__()
        self.history = History(size=size, width=width, heads=heads, layers=1, steps=steps)
        self.join = nn.Linear(2 * n, width)
        self.leave = nn.Linear(width, 1)

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        """[B, T, size] and [..., B, T, N] to [..., B, T]: leading dimensions of `actions` are alternatives."""
        hidden = self.history(states) + self.join(
            torch.cat([actions, torch.log1p(actions / FLOOR) / math.log1p(1 / FLOOR)], -1)
        )
        found: Tensor = self.leave(nn.functional.gelu(hidden)).squeeze(-1)
        return found
