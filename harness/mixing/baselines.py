"""Baselines for an agent: fixed mixtures, a regression on mixtures, a bandit. Pure arithmetic, no model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Protocol

import numpy as np

from harness.core.errors import DataError, SpecError
from harness.mixing.domains import FLOOR, Domains, Floats
from harness.mixing.episodes import Episodes

DECAYS = (1.0, 0.8, 0.6, 0.4, 0.2)
PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)


class Policy(Protocol):
    """Chooses the mixture of the next step from the array of the trajectory so far (`Feed.matrix`), shape [T, N + |D|]."""

    def next(self, matrix: Floats) -> Floats:
        """rho of the next step, shape [N], sums to 1."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same mixture at every step."""

    rho: Floats

    def next(self, matrix: Floats) -> Floats:
        """`rho`."""
        return self.rho


def uniform(space: Domains) -> Fixed:
    """Equal shares of all domains."""
    return Fixed(np.full(len(space.names), 1 / len(space.names)))


def start(space: Domains) -> Fixed:
    """The base model's own data: nothing new is learned."""
    return Fixed(space.start)


def target_only(space: Domains) -> Fixed:
    """The target state: no source."""
    return Fixed(space.target)


def grid(n: int, *, parts: int) -> list[Fixed]:
    """Every mixture of `n` domains in multiples of 1 / `parts`: (parts + n - 1 choose n - 1) of them. Raises SpecError."""
    if n < 1 or parts < 1:
        raise SpecError("a grid takes at least one domain and one part")
    found = []
    for bars in combinations(range(parts + n - 1), n - 1):
        edges = np.array([-1, *bars, parts + n - 1])
        found.append(Fixed((np.diff(edges) - 1) / parts))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """score = f(mixture of a run), by ridge on shares and a `curve` of them, `products` or `logarithms`.

    `decay`: weight of a step relative to the step after it. `error`: leave-one-out, root mean square, in the score's unit.
    """

    coefficients: Floats
    """Of the shares and their curve; then of the other features, which do not depend on the mixture."""
    mean: Floats
    error: float
    penalty: float
    curve: str
    decay: float = 1.0

    def predict(self, rho: Floats) -> Floats:
        """Scores of runs with one mixture throughout, from an average start: [..., N] to [...]."""
        features = CURVES[self.curve](rho)
        n = features.shape[-1]
        scores: Floats = (features - self.mean[:n]) @ self.coefficients[:n] + self.mean[-1]
        return scores


def regmix(data: Episodes, *, standardized: bool = True, penalties: Sequence[float] = PENALTIES) -> Regression:  # fmt: skip
    """RegMix (arXiv 2407.01492) on trajectories: a row per run with the mixture of its tokens and its total gain.

    Along a trajectory mixtures change, and later training counts for more: a step's tokens have the weight `decay` relative to those of
    the next. Decay, curve and penalty are chosen by the least leave-one-out error. The scores that a run starts from are features too,
    since bases differ. A run with a transition without a gain is not used. Raises DataError for fewer than three runs.
    """
    gains = data.gains_standardized if standardized else data.gains
    runs = [b for b, length in enumerate(data.lengths) if data.mask[b, :length].all()]
    if len(runs) < 3:
        raise DataError(f"a regression on mixtures takes 3 runs with a gain at every step; there are {len(runs)}")
    scores = np.array([gains[b].sum() for b in runs])
    starts = data.states[runs, 0, len(data.domains) :]
    fits = []
    for decay in DECAYS:
        mixtures = np.array([_mixture(data.actions[b, : data.lengths[b]], data.tokens[b, : data.lengths[b]], decay) for b in runs])  # fmt: skip
        fits.append(replace(fit_regression(mixtures, scores, beside=starts, penalties=penalties), decay=decay))
    return min(fits, key=lambda one: one.error)


def _mixture(rho: Floats, tokens: Floats, decay: float) -> Floats:
    """The mixture of all tokens of a run, [T, N] to [N]; tokens trained a (mean) step later have 1 / decay times the weight."""
    after = tokens.sum() - np.cumsum(tokens)
    found: Floats = np.average(rho, axis=0, weights=tokens * decay ** (after / tokens.mean()))
    return found


def fit_regression(
    mixtures: Floats, scores: Floats, *, beside: Floats | None = None, penalties: Sequence[float] = PENALTIES
) -> Regression:
    """The best curve and penalty by leave-one-out. `mixtures`: [runs, N]; `beside`: [runs, M], further features.

    Raises SpecError.
    """
    if not penalties:
        raise SpecError("a regression takes at least one penalty")
    others = np.empty((len(scores), 0)) if beside is None else beside
    fits = [
        _ridge(np.concatenate([of(mixtures), others], axis=1), scores, curve=curve, penalties=penalties)
        for curve, of in CURVES.items()
    ]
    return min(fits, key=lambda one: one.error)


def _ridge(features: Floats, scores: Floats, *, curve: str, penalties: Sequence[float]) -> Regression:
    """Ridge regression in its dual form, whose cost depends on the number of runs and not of features; leave-one-out in closed form."""
    centre, level = features.mean(0), float(scores.mean())
    centred, n = features - centre, len(scores)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    projected = vectors.T @ (scores - level)
    best: tuple[float, float, Floats] | None = None
    for penalty in penalties:
        shrink = np.maximum(values, 0) / (np.maximum(values, 0) + penalty)
        hat = (vectors**2) @ shrink + 1 / n
        left = (scores - level - vectors @ (shrink * projected)) / np.maximum(1 - hat, 1e-9)
        error = float(np.sqrt(np.mean(left**2)))
        if best is None or error < best[0]:
            dual = vectors @ (projected / (np.maximum(values, 0) + penalty))
            best = (error, penalty, centred.T @ dual)
    assert best is not None
    return Regression(coefficients=best[2], mean=np.append(centre, level), error=best[0], penalty=best[1], curve=curve)


def best_mixture(fitted: Regression, n: int, *, candidates: int = 20_000, top: int = 100, seed: int = 0) -> Fixed:
    """The mean of the `top` random mixtures with the best predictions, as in RegMix. They are drawn at several concentrations.

    Raises SpecError for a `top` outside [1, candidates].
    """
    if not 1 <= top <= candidates:
        raise SpecError(f"top is {top}; it lies between 1 and the {candidates} candidates")
    rng = np.random.default_rng(seed)
    sharpness = rng.choice([0.3, 1.0, 3.0], candidates)[:, None]
    drawn = np.maximum(rng.gamma(np.broadcast_to(sharpness, (candidates, n))), np.finfo(np.float64).tiny)
    drawn /= drawn.sum(1, keepdims=True)
    best = np.argsort(-fitted.predict(drawn), kind="stable")[:top]
    return Fixed(drawn[best].mean(0))


def _products(rho: Floats) -> Floats:
    """Shares and the products of any two, shape [..., N + N (N + 1) / 2]."""
    i, j = np.triu_indices(rho.shape[-1])
    found: Floats = np.concatenate([rho, rho[..., i] * rho[..., j]], axis=-1)
    return found


def _logarithms(rho: Floats) -> Floats:
    """Shares and their logarithms (diminishing returns of a domain), as in the agent's critic. Shape [..., 2 N]."""
    found: Floats = np.concatenate([rho, np.log1p(rho / FLOOR) / math.log1p(1 / FLOOR)], axis=-1)
    return found


CURVES: dict[str, Callable[[Floats], Floats]] = {"products": _products, "logarithms": _logarithms}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandit:
    """EXP3 over domains, after online data mixing: maximises the next gain, without a model of later steps.

    A step trains on all domains at once, so a gain is credited to a domain by its share: each step adds
    (gain - mean gain so far) x (share - 1 / N). Mixtures are drawn around the policy (Dirichlet, `spread` its concentration), since
    constant shares would give no information. `floor` of every mixture is uniform. A pure function of the array and the seed.
    """

    n: int
    weights: Floats | None = None
    """lambda of the components; default: equal."""
    rate: float = 2.0
    floor: float = 0.1
    spread: float = 20.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n < 1 or self.seed < 0 or not 0 <= self.floor <= 1 or not (0 < self.spread < math.inf) or not math.isfinite(self.rate):  # fmt: skip
            raise SpecError(
                "a bandit takes domains, a finite rate, a floor from 0 to 1, a spread above 0 and no negative seed"
            )

    def policy(self, matrix: Floats) -> Floats:
        """Before the draw, shape [N]. Raises DataError for an array that is not [T, N + |D|]."""
        rho, z = np.asarray(matrix)[:, : self.n], np.asarray(matrix)[:, self.n :]
        weights = np.full(z.shape[1], 1 / max(z.shape[1], 1)) if self.weights is None else self.weights
        if z.shape[1] < 1 or len(weights) != z.shape[1] or not len(rho):
            raise DataError(
                f"an array of shape {list(np.shape(matrix))}, for {self.n} domains and {len(weights)} components"
            )
        gains = np.diff(z @ weights)
        logits = np.zeros(self.n)
        for t, gain in enumerate(gains):
            if t:
                logits += self.rate * (gain - gains[:t].mean()) * (rho[t + 1] - 1 / self.n)
        odds = np.exp(logits - logits.max())
        found: Floats = (1 - self.floor) * odds / odds.sum() + self.floor / self.n
        return found

    def next(self, matrix: Floats) -> Floats:
        """Drawn around the policy. Raises DataError for NaN."""
        if not np.isfinite(matrix).all():
            raise DataError("the array has NaN; take Feed.matrix() with missing='mean'")
        rng = np.random.default_rng([self.seed, len(matrix)])
        return rng.dirichlet(np.maximum(self.spread * self.policy(matrix), 1e-3))
