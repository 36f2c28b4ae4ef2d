"""How often the alarm is false, and how often it comes: trajectories of 80 steps with three source components, by simulation.

    python benchmarks/alarm.py                 # 500 trajectories a row, a quarter of an hour
    python benchmarks/alarm.py --draws 20      # a look

A row without a loss beyond the allowed one has `false`: percent of trajectories with any alarm, of any component at any
look; at most 5 is promised. In all of them but `flat` the loss is exactly the allowed one at every step from the second on.
`naive`: a one-sided paired t test at 5% against the best step at every look, as a table of numbers would be read.

A row with a loss has `power`: percent of trajectories in which the component that lost has an alarm by the end, `at once`
(at the step of the loss) and `in 10` (within ten looks), and what `false` is in its other two.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from harness.core.component import ALLOWED_LOSS
from harness.reward_models.alarm import ALARM_ERROR, loss_bound, share
from harness.reward_models.interval import stderr
from harness.reward_models.items import Items, Layout, items, layout
from harness.reward_models.paired import differences

Floats = npt.NDArray[np.float64]
Random = np.random.Generator
Noise = Callable[[Random, tuple[int, int]], Floats]
STEPS, COMPONENTS = 80, 3
LOST_AT = 40
"""Index of the step from which on the first component has lost something, in rows with a loss."""


class Row(NamedTuple):
    """A row of the table. `draw` gives one component's values by item and step, shape [n_items, STEPS], with a given loss."""

    name: str
    where: Layout
    draw: Callable[[Random, Layout, Floats], Floats]
    loss: float | None = None
    """True loss from LOST_AT on, of the first component; None: exactly the allowed one, of all, from the second step on."""


class Seen(NamedTuple):
    """What one component's trajectory said: the steps with an alarm, and whether the naive test had any."""

    alarms: list[int]
    naive: bool


def alone(n: int, *, per: int = 1) -> Layout:
    """`n` items in clusters of `per`."""
    return layout([str(i) for i in range(n)], [str(i // per) for i in range(n)])


def values(noise: Noise, *, scale: float = 0.1, walk: bool = False, only: int | None = None) -> Callable[..., Floats]:
    """Log-probs: an item's own level, the step's, and a residual; `walk`: residuals add up from step to step.

    `only`: the one step whose residuals are drawn from `noise`, the others' being small and normal.
    """

    def draw(rng: Random, where: Layout, levels: Floats) -> Floats:
        shape = (len(where.ids), len(levels))
        residual = noise(rng, shape)
        if only is not None:
            small = 0.1 * rng.normal(size=shape)
            small[:, only] = residual[:, only]
            residual = small
        return -3 + rng.normal(size=(shape[0], 1)) + levels + scale * (residual.cumsum(axis=1) if walk else residual)

    return draw


def grouped(noise: Noise, *, scale: float = 0.1) -> Callable[..., Floats]:
    """Log-probs whose residuals are half their cluster's."""

    def draw(rng: Random, where: Layout, levels: Floats) -> Floats:
        own = noise(rng, (len(where.ids), len(levels)))
        shared = noise(rng, (where.n_clusters, len(levels)))[where.units]
        return -3 + levels + scale * (own + shared) / np.sqrt(2)

    return draw


def answers(p: float, *, agree: float = 0.8) -> Callable[..., Floats]:
    """0/1 answers: right at `p` plus the step's level (whose largest is taken for 0); `agree`: the share of an item's
    answers that are the same draw at every step."""

    def draw(rng: Random, where: Layout, levels: Floats) -> Floats:
        n = len(where.ids)
        per = n // where.n_clusters
        rates = np.full((n, 1), p) if per == 1 else np.repeat(rng.beta(p, 1 - p, size=n // per), per)[:, None]
        common = rng.random((n, 1)) < rates
        right = np.where(rng.random((n, len(levels))) < agree, common, rng.random((n, len(levels))) < rates)
        lost = rng.random((n, len(levels))) < (levels.max() - levels) / p  # of those that are right
        return (right & ~lost).astype(np.float64)

    return draw


def normal(rng: Random, shape: tuple[int, int]) -> Floats:
    return rng.normal(size=shape)


def student(df: float) -> Noise:
    """Heavy tails."""
    return lambda rng, shape: rng.standard_t(df, size=shape)


def lognormal(sign: float, *, sigma: float = 1.0) -> Noise:
    """Skewed to one side, with mean 0: by 6 at a sigma of 1, 33 at 1.5, 414 at 2."""
    return lambda rng, shape: sign * (np.exp(sigma * rng.normal(size=shape)) - np.exp(sigma * sigma / 2))


def rows() -> list[Row]:
    """Every row of the table."""
    found = [Row("flat, normal, n = 128", alone(128), values(normal), loss=0.0)]
    for n in (32, 128, 1531):
        found += [Row(f"allowed, normal, n = {n}", alone(n), values(normal))]
        found += [Row(f"allowed, t(3), n = {n}", alone(n), values(student(3)))]
        found += [Row(f"allowed, t(2.1), n = {n}", alone(n), values(student(2.1)))]
    for n in (64, 512):
        found += [
            Row(f"allowed, lognormal, n = {n}", alone(n), values(lognormal(-1))),
            Row(f"allowed, lognormal that adds up, n = {n}", alone(n), values(lognormal(1), walk=True, scale=0.02)),
            Row(
                f"allowed, lognormal downwards, adds up, n = {n}",
                alone(n),
                values(lognormal(-1), walk=True, scale=0.02),
            ),
            Row(f"allowed, only the best lognormal, n = {n}", alone(n), values(lognormal(-1), only=0)),
        ]
    for n, sigma in ((40, 1.5), (400, 1.5), (40, 2.0), (400, 2.0)):
        noise = lognormal(1, sigma=sigma)
        found += [
            Row(f"allowed, lognormal({sigma}) that adds up, n = {n}", alone(n), values(noise, walk=True, scale=0.01))
        ]
    found += [
        Row("allowed, normal that adds up, n = 128", alone(128), values(normal, walk=True, scale=0.02)),
        Row("allowed, 20 clusters of 4", alone(80, per=4), grouped(normal)),
        Row("allowed, 50 clusters of 4, t(3)", alone(200, per=4), grouped(student(3))),
    ]
    for n, p in ((20, 0.4), (100, 0.25), (164, 0.03), (1172, 0.25)):
        found += [Row(f"allowed, answers at {p}, n = {n}", alone(n), answers(p))]
    found += [
        Row("allowed, answers at 0.9, n = 500, nearly all alike", alone(500), answers(0.9, agree=0.995)),
        Row("allowed, tau2, 50 x 4 at 0.4", alone(200, per=4), answers(0.4, agree=0.0)),
    ]
    for loss in (0.05, 0.1, 0.2):
        found += [Row(f"loss {loss}, normal, n = 128", alone(128), values(normal), loss=loss)]
    for loss in (0.03, 0.05):
        found += [Row(f"loss {loss}, normal, n = 1531", alone(1531), values(normal), loss=loss)]
    for loss in (0.1, 0.2):
        found += [Row(f"loss {loss}, t(3), n = 128", alone(128), values(student(3)), loss=loss)]
    for n, loss in ((1172, 0.05), (1172, 0.1), (164, 0.2), (164, 0.3)):
        found += [Row(f"loss {loss}, answers at 0.5, n = {n}", alone(n), answers(0.5, agree=0.9), loss=loss)]
    for loss in (0.2, 0.35):
        found += [Row(f"loss {loss}, tau2, 50 x 4 at 0.4", alone(200, per=4), answers(0.4, agree=0.0), loss=loss)]
    return found


def look(where: Layout, x: Floats) -> Seen:
    """A trajectory's alarms, as a vector's are made: against the best step before, by its value."""
    steps = [items(where, column) for column in x.T]
    means = x.mean(axis=0)
    best, alarms, naive = 0, list[int](), False
    quantile = float(stdtrit(where.n_clusters - 1, 1 - ALARM_ERROR))
    for now in range(1, len(steps)):
        if means[now - 1] > means[best]:
            best = now - 1
        lost = differences(steps[now], steps[best])
        assert isinstance(lost, Items)
        bound = loss_bound(lost, error=ALARM_ERROR / COMPONENTS * share(now + 1))
        if bound is not None and bound > ALLOWED_LOSS:
            alarms.append(now)
        naive = naive or lost.mean - quantile * (stderr(lost) or np.inf) > ALLOWED_LOSS
    return Seen(alarms, naive)


def levels(loss: float | None, component: int) -> Floats:
    """What each step's true mean is beside the best one's, shape [STEPS]."""
    made = np.zeros(STEPS)
    if loss is None:
        made[1:] = -ALLOWED_LOSS
    elif component == 0:
        made[LOST_AT:] = -loss
    return made


def line(row: Row, draws: int) -> str:
    """A row, simulated."""
    rng = np.random.default_rng(0)
    false = naive = power = at_once = soon = 0
    real = row.loss is not None and row.loss > ALLOWED_LOSS
    for _ in range(draws):
        seen = [look(row.where, row.draw(rng, row.where, levels(row.loss, c))) for c in range(COMPONENTS)]
        null = [one.alarms for one in seen[1:]] + (
            [[s for s in seen[0].alarms if s < LOST_AT]] if real else [seen[0].alarms]
        )
        false += any(null)
        naive += any(one.naive for one in (seen[1:] if real else seen))
        if real:
            hits = [s for s in seen[0].alarms if s >= LOST_AT]
            power += bool(hits)
            at_once += LOST_AT in hits
            soon += any(s < LOST_AT + 10 for s in hits)
    counts = [false, naive, *([at_once, soon, power] if real else [])]
    shown = [f"{100 * count / draws:.1f}" for count in counts] + ([] if real else ["-"] * 3)
    return f"| {row.name} | {' | '.join(shown)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=500, help="trajectories of a row")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args()
    print("| case | false | naive | at once | in 10 | power |\n|---|---|---|---|---|---|")
    for row in rows():
        if options.only in row.name:
            print(line(row, options.draws), flush=True)


if __name__ == "__main__":
    main()
