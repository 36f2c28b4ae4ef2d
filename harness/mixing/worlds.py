"""Worlds for an environment: a proxy in training, or a simulator fitted to a feed. Both return standardised scores."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from harness.core.errors import DataError, EngineError
from harness.core.vector import RewardVector
from harness.feed.feed import read_feed
from harness.feed.lines import FEED_FILE
from harness.mixing.domains import Floats
from harness.mixing.episodes import Episodes
from harness.mixing.history import history
from harness.mixing.trainer import Trainer
from harness.reward_models.reference import Reference
from harness.run.live import RewardEnvironment


class StepResult(NamedTuple):
    """The result of a step: z of each component, shape [|D|]; the gain, sum of lambda x step in z; its paired error (NaN where unknown);
    the tokens seen.
    """

    z: Floats
    gain: float
    stderr: float
    tokens: int


class World(Protocol):
    """One trajectory at a time. Equal seeds and mixtures give equal outcomes."""

    @property
    def domains(self) -> Sequence[str]:
        """N names."""
        ...

    @property
    def components(self) -> Sequence[str]:
        """|D| names."""
        ...

    def reset(self, seed: int) -> Floats:
        """Begin a trajectory; returns z of the initial model, shape [|D|]."""
        ...

    def step(self, rho: Floats) -> StepResult:
        """Train on a mixture and score."""
        ...


NAME = "env-"
"""Prefix of the names of trajectories that an environment makes, before their number."""


class Live:
    """A trainer and a reward environment. `reference`: a frozen one for z, from `fit_reference` on a feed."""

    def __init__(self, trainer: Trainer, environment: RewardEnvironment, reference: Reference) -> None:
        self._trainer, self._environment, self._reference = trainer, environment, reference
        self.domains = tuple(trainer.domains)
        self.components = tuple(one.config.name for one in environment.prepared.components)
        self._weights = np.array(environment.prepared.spec.weights())
        self._spreads = [_spread(reference, name) for name in self.components]
        self._number = max((int(name.removeprefix(NAME)) for name in _trajectories(environment) if re.fullmatch(rf"{NAME}\d+", name)), default=0)  # fmt: skip
        self._step = 0

    def reset(self, seed: int) -> Floats:
        """Begin a new trajectory in the environment's feed; returns z of the initial model."""
        self._number += 1
        self._step = 0
        self._trainer.reset(seed)
        self._feedback(None, 0)
        z: Floats = self._z()[-1]
        return z

    def step(self, rho: Floats) -> StepResult:
        """Raises EngineError where a component could not be measured: a step without a gain has no reward."""
        tokens = self._trainer.step(rho)
        self._step += 1
        vector = self._feedback(rho, tokens)
        if vector.gain is None:
            raise EngineError(f"step {self._step} has no gain: {'; '.join(vector.warnings) or 'a component failed'}")
        z = self._z()
        errors = [
            0.0 if weight == 0 else math.nan if one.change_stderr is None else weight * one.change_stderr / spread
            for weight, spread, one in zip(self._weights, self._spreads, vector.components, strict=True)
        ]
        return StepResult(z[-1], float(self._weights @ (z[-1] - z[-2])), math.hypot(*errors), tokens)

    @property
    def _name(self) -> str:
        return f"{NAME}{self._number:04}"

    def _feedback(self, rho: Floats | None, tokens: int) -> RewardVector:
        return self._environment.feedback(
            self._trainer.model,
            self._trainer.tokenizer,
            step=self._step,
            mixture=None if rho is None else dict(zip(self.domains, rho.tolist(), strict=True)),
            trajectory=self._name,
            tokens_seen=tokens,
        )

    def _z(self) -> Floats:
        found = history(
            self._environment.feed,
            self._name,
            domains=self.domains,
            components=self.components,
            reference=self._reference,
        )
        z: Floats = found[:, len(self.domains) :]
        return z


@dataclass(kw_only=True)
class Simulator:
    """Ridge regression of the change of z in a step on (z, rho, their products), fitted to a feed. Needs no training; a rough model.

    `error`: root mean square of the residuals, in z, shape [|D|]; with `noise` a step adds normal noise of that size.
    """

    domains: tuple[str, ...]
    components: tuple[str, ...]
    weights: Floats
    starts: Floats
    """z of the feed's first steps, one of which a trajectory starts from, shape [B, |D|]."""
    coefficients: Floats
    error: Floats
    noise: bool = False
    _z: Floats | None = field(default=None, repr=False)
    _rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0), repr=False)

    @classmethod
    def of(cls, data: Episodes, *, penalty: float = 1e-2, noise: bool = False) -> Simulator:
        """Fit to episodes. Raises DataError for fewer transitions than coefficients per component."""
        n = len(data.domains)
        before, after = data.observations[data.mask], data.next_observations[data.mask]
        x = _features(before[:, n:], data.actions[data.mask])
        if len(x) < x.shape[1]:
            raise DataError(f"a simulator of this space takes {x.shape[1]} transitions; the feed has {len(x)}")
        y = after[:, n:] - before[:, n:]
        gram = x.T @ x + penalty * np.eye(x.shape[1])
        coefficients: Floats = np.linalg.solve(gram, x.T @ y).astype(np.float64)
        error = np.sqrt(np.mean((y - x @ coefficients) ** 2, axis=0))
        return cls(
            domains=data.domains, components=data.components, weights=data.weights, starts=data.states[:, 0, n:],
            coefficients=coefficients, error=error, noise=noise,
        )  # fmt: skip

    def reset(self, seed: int) -> Floats:
        """Begin at one of the feed's first states; returns its z."""
        self._rng = np.random.default_rng(seed)
        self._z = self.starts[int(self._rng.integers(len(self.starts)))]
        return self._z

    def step(self, rho: Floats) -> StepResult:
        """Raises DataError before `reset`."""
        z = self._z
        if z is None:
            raise DataError("the simulator has no state; call reset(seed) first")
        change = (_features(z[None], rho[None]) @ self.coefficients)[0]
        if self.noise:
            change = change + self.error * self._rng.normal(size=len(z))
        self._z = z + change
        return StepResult(
            z + change, float(self.weights @ change), float(np.hypot.reduce(self.weights * self.error)), 0
        )


def _trajectories(environment: RewardEnvironment) -> list[str]:
    """Names of existing trajectories, of earlier processes too."""
    folder = environment.out
    stored = read_feed(folder).trajectories if folder is not None and (folder / FEED_FILE).exists() else []
    return [*environment.feed.trajectories, *stored]


def _spread(reference: Reference, name: str) -> float:
    fitted = reference.component(name)
    if fitted is None or fitted.std <= 0:
        raise DataError(f"the reference has no spread of {name}; fit it on a feed in which {name} varies")
    return fitted.std


def _features(z: Floats, rho: Floats) -> Floats:
    """[M, |D|] and [M, N] to [M, F]: shares, their products, and shares times z. A constant is the sum of shares."""
    i, j = np.triu_indices(rho.shape[1], 1)
    crossed = (rho[:, :, None] * z[:, None, :]).reshape(len(z), -1)
    return np.concatenate([rho, rho[:, i] * rho[:, j], crossed], axis=1)
