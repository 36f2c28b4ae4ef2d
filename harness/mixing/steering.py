"""Feedback in, the next mixture out, within another program's training: the common part of the adapters to trainers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.errors import SpecError
from harness.feed.feed import Feed, read_feed
from harness.feed.lines import FEED_FILE
from harness.mixing.agent import Agent
from harness.mixing.baselines import Policy
from harness.mixing.domains import Floats
from harness.mixing.history import history
from harness.reward_models.reference import Reference
from harness.run.live import RewardEnvironment


class Steering:
    """Scores a model in training and chooses the mixture of the next step.

    `domains` are the trainer's, in its order; `policy` is an `Agent`, the folder of one, or any Policy over these domains. Raises SpecError
    if an agent's domains are not the same, in any order.
    """

    def __init__(
        self,
        environment: RewardEnvironment,
        policy: Policy | str | Path,
        *,
        domains: Sequence[str],
        trajectory: str,
    ) -> None:
        self.environment = environment
        self.trajectory = trajectory
        self.domains = list(domains)
        self._policy: Policy = Agent.load(Path(policy)) if isinstance(policy, str | Path) else policy
        self._order = list(domains)
        self._reference: Reference | None = None
        self._components = [component.config.name for component in environment.prepared.components]
        if isinstance(self._policy, Agent):
            card = self._policy.card
            self._order, self._components, self._reference = card.domains, card.components, card.reference
            if sorted(self._order) != sorted(self.domains):
                raise SpecError(
                    f"the agent mixes {', '.join(self._order)}, and the trainer has {', '.join(self.domains)}; name the "
                    "trainer's data sets as the domains that the agent was fitted on"
                )

    def next(
        self,
        model: Any,
        tokenizer: Any,
        *,
        step: int,
        trained_on: Sequence[float] | None,
        tokens_seen: int | None = None,
    ) -> Floats:
        """rho of the next step, shape [N], in the trainer's order, sums to 1. `trained_on`: the shares trained on since the previous
        feedback, None before the first step. Raises HarnessError.
        """
        mixture: Mapping[str, float] | None = None
        if trained_on is not None:
            mixture = dict(zip(self.domains, map(float, trained_on), strict=True))
        self.environment.feedback(
            model, tokenizer, step=step, mixture=mixture, trajectory=self.trajectory, tokens_seen=tokens_seen
        )
        return self._chosen(self.environment.feed, step)

    def chosen_before(self, step: int) -> Floats | None:
        """The result of `next` at the last feedback up to a step, from the run folder's feed; None where there is none."""
        known = self._known()
        return self._chosen(known, step) if any(v.step is not None and v.step <= step for v in known) else None

    def trained_on(self, step: int) -> list[float] | None:
        """The shares that were trained on before a step, from the run folder's feed; None at step 0, and where they are not recorded."""
        found = next((v.mixture for v in self._known() if v.step == step > 0 and v.mixture is not None), None)
        return None if found is None else [found.normalized().get(name, 0.0) for name in self.domains]

    def _known(self) -> Feed:
        """The trajectory in the run folder's feed; empty where there is none."""
        folder = self.environment.out
        if folder is None or not (folder / FEED_FILE).exists():
            return Feed([])
        feed = read_feed(folder)
        return feed.trajectory(self.trajectory) if self.trajectory in feed.trajectories else Feed([])

    def _chosen(self, feed: Feed, step: int) -> Floats:
        known = history(
            feed,
            self.trajectory,
            domains=self._order,
            components=self._components,
            reference=self._reference,
            until=step,
        )
        chosen = np.asarray(self._policy.next(known), dtype=np.float64)
        by_name = dict(zip(self._order, chosen / chosen.sum(), strict=True))
        return np.array([by_name[name] for name in self.domains])
