"""The reference agent: warmed up by imitation, improved offline by Conservative Q-Learning (arXiv 2006.04779), saved in a folder."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field, ValidationError
from torch import Tensor

from harness.core.digest import digest_bytes
from harness.core.errors import DataError, EngineError, SpecError, why_unreadable
from harness.core.journal import write_atomically
from harness.core.measurement import Record, describe
from harness.feed.feed import Feed
from harness.mixing.domains import Floats
from harness.mixing.episodes import Episodes
from harness.mixing.history import history
from harness.mixing.networks import Actor, Critic
from harness.reward_models.reference import Reference

CARD = "agent.json"
WEIGHTS = "agent.safetensors"
LARGEST = 1e6
"""Largest input of a network: z are a few units, and float32 has a smaller range than float64."""


class Settings(Record):
    """Settings of networks and learning.

    The paper gives the layers and 2.1M parameters (width 296 at N = 52), and no other numbers.
    """

    width: int = Field(default=296, ge=1)
    heads: int = Field(default=8, ge=1)
    steps: int = Field(default=81, ge=1, description="places that are told apart")
    seed: int = Field(default=0, ge=0, lt=2**62)
    warm_up_iterations: int = Field(default=300, ge=0)
    iterations: int = Field(default=400, ge=0)
    batch: int = Field(default=64, ge=1, description="trajectories at once")
    rate: float = Field(default=3e-4, gt=0)
    discount: float = Field(default=0.95, ge=0, le=1)
    conservatism: float = Field(default=0.1, ge=0, description="CQL's alpha, in standard deviations of the gains")
    samples: int = Field(default=8, ge=1, description="random mixtures that the conservative term is over")
    target_rate: float = Field(default=0.05, gt=0, le=1, description="of the critic that TD targets come from")
    average_rate: float = Field(
        default=0.01, gt=0, le=1, description="of the actor that is kept, a moving mean of the one that learns"
    )


class Card(Record):
    """The record of an agent: domains, components, reference of its input, settings, and what it learned from."""

    schema_: str = Field(default="harness.mixing_agent/1", alias="schema")
    domains: list[str] = Field(min_length=1)
    components: list[str] = Field(min_length=1)
    settings: Settings
    reference: Reference | None = None
    history: list[str] = []
    weights: str | None = Field(default=None, description="digest of agent.safetensors, in the folder")


class Agent:
    """Next mixtures for N domains from histories of [rho ; z]. Equal seeds and data give equal weights on one machine."""

    def __init__(
        self,
        domains: Sequence[str],
        components: Sequence[str],
        *,
        settings: Settings | None = None,
        reference: Reference | None = None,
    ) -> None:
        chosen = settings or Settings()
        if chosen.width % chosen.heads:
            raise SpecError(f"a width of {chosen.width} does not divide into {chosen.heads} heads")
        for what, names in (("domain", domains), ("component", components)):
            if len(set(names)) < len(names):
                raise SpecError(f"a {what} is there twice: {', '.join(names)}")
        self.card = Card(domains=list(domains), components=list(components), settings=chosen, reference=reference)
        size: dict[str, Any] = {
            "size": len(domains) + len(components),
            "n": len(domains),
            "width": chosen.width,
            "heads": chosen.heads,
            "steps": chosen.steps,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(chosen.seed)
            self.actor, self.critic = Actor(**size), Critic(**size)

    def warm_up(self, data: Episodes) -> Self:
        """Imitation by mean squared error on the trajectories of K = 1, or on all where no name says so. Raises as `improve`."""
        self._check(data)
        first = [b for b, k in enumerate(data.ks) if k == 1]
        some = data.only(first) if first else data
        states, actions, mask = _tensor(some.observations), _tensor(some.actions), torch.tensor(some.mask)

        def loss(rows: Tensor) -> Tensor:
            error = ((self.actor(states[rows]) - actions[rows]) ** 2).sum(-1)
            return _mean(error, mask[rows])

        self._learn(loss, self.actor, len(some.names), self.card.settings.warm_up_iterations, salt=1)
        self._check_learned()
        self.card.history.append(f"warm-up on {len(some.names)} trajectories{' of K = 1' if first else ', no K told'}")
        return self

    def improve(self, data: Episodes, *, standardized: bool = True) -> Self:
        """Conservative Q-Learning, actor-critic: TD learning for the mixtures in the data, a penalty on the values of others, and the
        actor ascends the critic. Gains are divided by their standard deviation. With causal layers every prefix of a trajectory is
        trained on. Raises DataError for other domains or components, EngineError where learning diverged.
        """
        self._check(data)
        chosen = self.card.settings
        gains = data.gains_standardized if standardized else data.gains
        spread, level = float(gains[data.mask].std()), float(np.abs(gains[data.mask]).max())
        scale = spread if spread > 1e-9 * level else level or 1.0  # equal gains differ by rounding, which is no spread
        states, actions, mask = _tensor(data.states), _tensor(data.actions), torch.tensor(data.mask)
        rewards, ends = _tensor(gains / scale), torch.tensor(data.terminals)
        target = copy.deepcopy(self.critic).requires_grad_(False)
        kept = copy.deepcopy(self.actor).requires_grad_(False)
        rng = torch.Generator().manual_seed(chosen.seed + 3)
        n = actions.shape[-1]
        critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=chosen.rate)
        actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=chosen.rate)
        for _ in range(chosen.iterations):
            rows = torch.randint(len(data.names), (min(chosen.batch, len(data.names)),), generator=rng)
            whole, done, known = states[rows], actions[rows], mask[rows]
            now = whole[:, :-1]
            with torch.no_grad():
                proposed = self.actor(whole)
                after = target(whole, proposed)[:, 1:]
                wanted = rewards[rows] + chosen.discount * after * (~ends[rows])
            drawn = -torch.log(torch.rand((chosen.samples, *done.shape), generator=rng).clamp(min=1e-9))
            others = torch.cat([drawn / drawn.sum(-1, keepdim=True), proposed[None, :, :-1]])
            values = self.critic(now, torch.cat([done[None], others]))
            pressed = torch.logsumexp(values, 0) - values[0]
            loss = _mean((values[0] - wanted) ** 2 + chosen.conservatism * pressed, known)
            critic_optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            critic_optimizer.step()
            self.critic.requires_grad_(False)
            climbed = -_mean(self.critic(now, self.actor(now)), known)
            actor_optimizer.zero_grad()
            climbed.backward()  # type: ignore[no-untyped-call]
            actor_optimizer.step()
            self.critic.requires_grad_(True)
            with torch.no_grad():
                for slow, fast in zip(target.parameters(), self.critic.parameters(), strict=True):
                    slow.lerp_(fast, chosen.target_rate)
                for slow, fast in zip(kept.parameters(), self.actor.parameters(), strict=True):
                    slow.lerp_(fast, chosen.average_rate)
        self.actor = kept.requires_grad_(True)
        self._check_learned()
        kind = "standardised" if standardized else "raw"
        self.card.history.append(f"CQL on {int(data.mask.sum())} transitions of {n} domains, {kind} gains")
        return self

    def next(self, matrix: Floats) -> Floats:
        """rho of the next step, shape [N], from the trajectory so far, shape [T, N + |D|] (Algorithm 2). Raises DataError."""
        states = np.asarray(matrix, dtype=np.float64)
        size = len(self.card.domains) + len(self.card.components)
        if states.ndim != 2 or states.shape[1] != size or not len(states):
            raise DataError(
                f"an array of shape {list(states.shape)}; this agent takes [T, {size}] with at least one row"
            )
        if not np.isfinite(states).all() or np.abs(states).max() > LARGEST:
            raise DataError(
                f"the array has NaN, infinite values or some beyond {LARGEST:g}; take Feed.matrix(reference) with missing='mean'"
            )
        with torch.inference_mode():
            rho = self.actor(_tensor(states)[None])[0, -1].double().numpy()
        found: Floats = rho / rho.sum()
        return found

    def next_of(self, feed: Feed, trajectory: str) -> dict[str, float]:
        """rho of the next step by domain, from a feed whose columns are ordered by name. Raises DataError."""
        card = self.card
        ordered = history(feed, trajectory, domains=card.domains, components=card.components, reference=card.reference)
        return dict(zip(card.domains, self.next(ordered).tolist(), strict=True))

    @property
    def digest(self) -> str:
        """Digest of the weights of both networks."""
        return digest_bytes(self._weights())

    def _weights(self) -> bytes:
        from safetensors.torch import save

        parts = {"actor": self.actor, "critic": self.critic}
        tensors = {
            f"{part}.{k}": v.contiguous() for part, network in parts.items() for k, v in network.state_dict().items()
        }
        content: bytes = save(tensors)
        return content

    def save(self, folder: Path) -> None:
        """Write agent.safetensors and agent.json, the card."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = self._weights()
        self.card = self.card.model_copy(update={"weights": digest_bytes(weights)})
        write_atomically(folder / WEIGHTS, weights)
        write_atomically(folder / CARD, self.card.model_dump_json(by_alias=True, indent=2).encode() + b"\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The agent in a folder. Raises DataError for a folder without an agent of this version."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            card = Card.model_validate(json.loads((folder / CARD).read_text(encoding="utf-8")))
            if card.schema_ != "harness.mixing_agent/1":
                raise DataError(
                    f"{folder / CARD}: schema is {card.schema_!r}, this version reads 'harness.mixing_agent/1'"
                )
            agent = cls(card.domains, card.components, settings=card.settings, reference=card.reference)
            content = (folder / WEIGHTS).read_bytes()
            if card.weights is not None and card.weights != digest_bytes(content):
                raise DataError(
                    f"{folder / WEIGHTS} is not what {CARD} was written with: damaged, or of another fit; `harness mix fit` again"
                )
            tensors = load(content)
            for name, network in (("actor", agent.actor), ("critic", agent.critic)):
                network.load_state_dict(
                    {
                        key.removeprefix(f"{name}."): value
                        for key, value in tensors.items()
                        if key.startswith(f"{name}.")
                    }
                )
        except ValidationError as error:
            raise DataError(f"{folder / CARD}: {describe(error, Card)}") from error
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise DataError(
                f"{folder} holds no agent: {why_unreadable(error)}; `harness mix fit` writes one"
            ) from error
        if not agent._is_finite():
            raise DataError(f"{folder / WEIGHTS} has weights that are NaN or infinite; `harness mix fit` again")
        agent.card = card
        return agent

    def _check(self, data: Episodes) -> None:
        for what, theirs, mine in (("domains", data.domains, self.card.domains), ("components", data.components, self.card.components)):  # fmt: skip
            if list(theirs) != mine:
                raise DataError(
                    f"the episodes have the {what} {', '.join(theirs)}, the agent {', '.join(mine)}, in this order"
                )

    def _check_learned(self) -> None:
        if not self._is_finite():
            raise EngineError("learning diverged: a weight is NaN or infinite; take a lower rate, or look at the gains")

    def _is_finite(self) -> bool:
        networks = (self.actor, self.critic)
        return all(bool(torch.isfinite(value).all()) for network in networks for value in network.parameters())

    def _learn(self, loss: Callable[[Tensor], Tensor], network: torch.nn.Module, size: int, iterations: int, *, salt: int) -> None:  # fmt: skip
        chosen = self.card.settings
        rng = torch.Generator().manual_seed(chosen.seed + salt)
        optimizer = torch.optim.Adam(network.parameters(), lr=chosen.rate)
        for _ in range(iterations):
            found = loss(torch.randint(size, (min(chosen.batch, size),), generator=rng))
            optimizer.zero_grad()
            found.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def _tensor(values: Floats) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum().clamp(min=1)
