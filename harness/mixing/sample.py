"""Trajectories of mixtures to collect feedback along: Algorithm 1 of arXiv 2507.15640, for any number of domains. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.core.errors import SpecError
from harness.mixing.domains import Domains, Floats

K = (1, 100, 1_000, 10_000)
"""Numbers of best candidates from which one is picked at random: the paper's four values, for 96 trajectories each."""
SCHEMA = "harness.mixing_plan/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heuristic:
    """Coefficients of the inductive score, which the paper does not give: attraction to the previous step (alpha) and to the target (beta),
    repulsion from earlier trajectories (gamma).
    """

    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One trajectory: `rho` has shape [T + 1, N], the start state first."""

    name: str
    k: int
    rho: Floats


def sample_trajectories(
    space: Domains,
    *,
    steps: int = 80,
    number: int = 384,
    k: Sequence[int] = K,
    candidates: int = 20_000,
    heuristic: Heuristic | None = None,
    tokens_per_step: float | None = None,
    concentration: float = 1.0,
    seed: int = 0,
) -> list[Planned]:
    """`number` trajectories of at most `steps` steps from the start state, as many for each value of K.

    At step d each of `candidates` random distributions rho' (Dirichlet) gets the score
    alpha KL(rho || rho') + beta sigmoid(d / 5) KL(target || rho') - gamma mean_{tau' earlier, longer than d} KL(tau'[d] || rho'),
    and one of the K lowest is taken at random. With `tokens_per_step`, in the unit of the space's sizes, a trajectory ends when
    it has used up the data of every target domain.

    All divergences are linear in log rho', so a step costs candidates x N however many trajectories came before. The candidates
    of a step are drawn once; every trajectory sees them with the domains permuted at random, which leaves their distribution
    as it is. Equal arguments give equal trajectories, and more of them the same first ones for each K. Raises SpecError.
    """
    chosen = heuristic or Heuristic()
    if steps < 1 or number < 1 or not k or candidates < 1:
        raise SpecError("steps, number, candidates and K must be at least 1")
    if any(one < 1 or one > candidates for one in k) or len(set(k)) < len(k):
        raise SpecError(f"each K must be between 1 and the {candidates:,} candidates, and given once")
    if seed < 0:
        raise SpecError(f"the seed is {seed}; it cannot be negative")
    if tokens_per_step is not None and not 0 < tokens_per_step < math.inf:
        raise SpecError(f"tokens_per_step is {tokens_per_step:g}; it is a number above 0, in the unit of the sizes")
    if not 0 < concentration < math.inf or not all(map(math.isfinite, (chosen.alpha, chosen.beta, chosen.gamma))):
        raise SpecError("the concentration is a number above 0, and alpha, beta and gamma are finite")
    n = len(space.names)
    ks = [k[index % len(k)] for index in range(number)]
    rho = np.tile(space.start, (number, 1))
    paths: list[list[Floats]] = [[row.copy()] for row in rho]
    left = _target_sizes(space, tokens_per_step)
    unused = None if left is None else np.tile(left, (number, 1))
    alive = np.ones(number, dtype=bool)
    target = space.target
    for d in range(1, steps + 1):
        if not alive.any():
            break
        pool = np.random.default_rng([seed, d]).dirichlet(np.full(n, concentration), candidates)
        logs = np.log(np.maximum(pool, np.finfo(np.float64).tiny)).astype(np.float32)
        pull = chosen.beta / (1 + math.exp(-d / 5)) * target
        total = np.zeros(n)
        for seen, index in enumerate(np.flatnonzero(alive).tolist()):
            rng = np.random.default_rng([seed, d, index])
            permutation = rng.permutation(n)
            weights = chosen.alpha * rho[index] + pull
            if seen:
                weights = weights - chosen.gamma * total / seen
            scores = logs @ -weights[permutation].astype(np.float32)
            best = (
                np.argpartition(scores, ks[index] - 1)[: ks[index]] if ks[index] < candidates else np.arange(candidates)
            )
            picked = pool[rng.choice(np.sort(best))]
            state = np.empty(n)
            state[permutation] = picked
            rho[index] = state
            paths[index].append(state)
            total += state
            if unused is not None:
                assert tokens_per_step is not None
                unused[index] -= tokens_per_step * state[len(space.sources) :]
                alive[index] = bool((unused[index] > 0).any())
    return [
        Planned(name=f"k{one}-{index // len(k):03}", k=one, rho=np.array(path))
        for index, (one, path) in enumerate(zip(ks, paths, strict=True))
    ]


def _target_sizes(space: Domains, tokens_per_step: float | None) -> Floats | None:
    if tokens_per_step is None:
        return None
    missing = [name for name in space.targets if name not in space.sizes]
    if missing:
        raise SpecError(f"to end when the target data are used up needs the size of {', '.join(missing[:5])}")
    return np.array([space.sizes[name] for name in space.targets])
