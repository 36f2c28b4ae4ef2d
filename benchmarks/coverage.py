"""How often the 95% intervals of the reward hold the truth, by simulation: every row of docs/statistics.md.

    python benchmarks/coverage.py                  # 50,000 draws a row, minutes
    python benchmarks/coverage.py --draws 2000     # a look

`built`: +-1.96 standard errors, as lm-eval prints them. `interval`: what the vector's `interval`, a paired change's
`interval` and `detail.interval_repeat` are. `se`: +-1.96 of the error that scalars and gains are made of, whose 0 is filled
in. Proportions are averaged over true values from half to twice the one named: a single one makes any interval oscillate.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.core.measurement import Interval
from harness.reward_models.interval import Z, interval, stderr
from harness.reward_models.items import Items, Layout, items, layout
from harness.reward_models.paired import change, differences
from harness.reward_models.repeat import interval_repeat, stderr_repeat
from harness.reward_models.statistics import clustered_mean
from harness.reward_models.tau2.pass_hat import Trials, pass_hat_estimate

Floats = npt.NDArray[np.float64]
Random = np.random.Generator
ICC = 0.5
"""Of tau2's trials: the share of their variance that is the task's."""


class Draw(NamedTuple):
    """One simulated measurement: the truth, and what was made of it. `built`: (value, standard error)."""

    truth: float
    value: float
    built: float | None
    stderr: float | None
    interval: Interval | None


class Row(NamedTuple):
    """A row of the table. `draw` makes measurements without end."""

    name: str
    draw: Callable[[Random], Iterator[Draw]]


def alone(n: int, *, per: int = 1) -> Layout:
    """`n` items in clusters of `per`."""
    return layout([str(i) for i in range(n)], [str(i // per) for i in range(n)])


def _of(found: Items, truth: float) -> Draw:
    built = clustered_mean(found.values, found.layout.clusters).stderr
    return Draw(truth, found.mean, built, stderr(found), interval(found))


def values(n: int, sample: Callable[[Random, int], Floats], truth: float) -> Callable[[Random], Iterator[Draw]]:
    """A field of `n` pairs."""

    def draw(rng: Random) -> Iterator[Draw]:
        where = alone(n)
        while True:
            yield _of(items(where, -sample(rng, n)), -truth)

    return draw


def clusters(n_clusters: int, *, per: int = 4, icc: float = ICC) -> Callable[[Random], Iterator[Draw]]:
    """Pairs that share a context."""

    def draw(rng: Random) -> Iterator[Draw]:
        where = alone(n_clusters * per, per=per)
        while True:
            shared = np.repeat(rng.normal(scale=math.sqrt(icc), size=n_clusters), per)
            yield _of(items(where, shared + rng.normal(scale=math.sqrt(1 - icc), size=n_clusters * per) - 3), -3.0)

    return draw


def accuracy(n: int, p: float) -> Callable[[Random], Iterator[Draw]]:
    """Questions answered right or wrong."""

    def draw(rng: Random) -> Iterator[Draw]:
        where = alone(n)
        while True:
            truth = around(rng, p)
            yield _of(items(where, (rng.random(n) < truth).astype(float)), truth)

    return draw


def around(rng: Random, p: float) -> float:
    """From half to twice `p`, and not above 0.9."""
    return float(rng.uniform(p / 2, min(2 * p, 0.9)))


def tasks_of(rng: Random, n: int, p: float, icc: float = ICC) -> Floats:
    """True success rates of tasks: Beta with mean p."""
    scale = 1 / icc - 1
    return rng.beta(scale * p, scale * (1 - p), size=n)


def simulations(n: int, trials: int, p: float) -> Callable[[Random], Iterator[Draw]]:
    """tau2 with tasks as a sample."""

    def draw(rng: Random) -> Iterator[Draw]:
        where = alone(n * trials, per=trials)
        while True:
            truth = around(rng, p)
            rates = np.repeat(tasks_of(rng, n, truth), trials)
            yield _of(items(where, (rng.random(n * trials) < rates).astype(float)), truth)

    return draw


def repeats(n: int, trials: int, p: float) -> Callable[[Random], Iterator[Draw]]:
    """tau2 with the same tasks again."""

    def draw(rng: Random) -> Iterator[Draw]:
        while True:
            rates = tasks_of(rng, n, around(rng, p))
            won = (rng.random((n, trials)) < rates[:, None]).astype(float)
            clustered = clustered_mean(won.ravel(), np.repeat(np.arange(n), trials).tolist()).stderr
            rows = won.tolist()
            yield Draw(float(rates.mean()), float(won.mean()), clustered, stderr_repeat(rows), interval_repeat(rows))

    return draw


def passes(n: int, trials: int, k: int) -> Callable[[Random], Iterator[Draw]]:
    """pass^k."""

    def draw(rng: Random) -> Iterator[Draw]:
        scale = 1 / ICC - 1
        while True:
            p = rng.uniform(0.2, 0.8)
            a, b = scale * p, scale * (1 - p)
            truth = math.prod((a + i) / (a + b + i) for i in range(k))
            won = rng.binomial(trials, rng.beta(a, b, size=n))
            made = pass_hat_estimate([Trials(trials, int(w)) for w in won], k)
            assert made is not None
            yield Draw(truth, made.mean, made.stderr, made.stderr, made.interval)

    return draw


def suite(members: list[tuple[int, float]]) -> Callable[[Random], Iterator[Draw]]:
    """The plain mean of benchmarks: (questions, true accuracy) each."""

    def draw(rng: Random) -> Iterator[Draw]:
        strata = [s for s, (n, _) in enumerate(members) for _ in range(n)]
        ids = [str(i) for i in range(len(strata))]
        where = layout(ids, ids, strata=strata, weights=[1 / len(members)] * len(members))
        while True:
            rates = np.array([around(rng, p) for _, p in members])
            right = (rng.random(len(ids)) < rates[where.strata]).astype(float)
            found = items(where, right)
            squares = [right[rows].var(ddof=1) / rows.sum() for rows in found.members() if not isinstance(rows, slice)]
            built = math.sqrt(sum(squares)) / len(members)
            yield Draw(float(rates.mean()), found.mean, built, stderr(found), interval(found))

    return draw


def _paired(before: Items, after: Items, truth: float) -> Draw:
    found = differences(before, after)
    assert isinstance(found, Items)
    made = change(found)
    built = math.hypot(stderr(before) or 0, stderr(after) or 0)
    return Draw(truth, made.change, built, made.stderr, made.interval)


def paired_values(n: int, sample: Callable[[Random, int], Floats]) -> Callable[[Random], Iterator[Draw]]:
    """A field at two steps: items of sd 1, and what is left of them (`sample`, mean 0)."""

    def draw(rng: Random) -> Iterator[Draw]:
        where = alone(n)
        while True:
            hard = rng.normal(size=n) - 3
            yield _paired(
                items(where, hard + 0.15 * sample(rng, n)), items(where, hard + 0.02 + 0.15 * sample(rng, n)), 0.02
            )

    return draw


def paired_simulations(n: int, trials: int, p: float, unchanged: float) -> Callable[[Random], Iterator[Draw]]:
    """tau2 at two steps; a share of the tasks keeps its success rate."""

    def draw(rng: Random) -> Iterator[Draw]:
        where = alone(n * trials, per=trials)
        while True:
            centre = around(rng, p)
            other = around(rng, p)
            rates = tasks_of(rng, n, centre)
            later = np.where(rng.random(n) < unchanged, rates, tasks_of(rng, n, other))
            won = [(rng.random((n, trials)) < one[:, None]).astype(float).ravel() for one in (rates, later)]
            yield _paired(items(where, won[0]), items(where, won[1]), (1 - unchanged) * (other - centre))

    return draw


def paired_accuracy(n: int, p: float, turned: float) -> Callable[[Random], Iterator[Draw]]:
    """A benchmark at two steps: `turned` of the right answers become wrong, and as many or more the other way."""

    def draw(rng: Random) -> Iterator[Draw]:
        where = alone(n)
        while True:
            rate = around(rng, p)
            lost, won = around(rng, turned), min(1.0, around(rng, turned) * rate / (1 - rate))
            before = rng.random(n) < rate
            after = np.where(before, rng.random(n) >= lost, rng.random(n) < won)
            truth = (1 - rate) * won - rate * lost
            yield _paired(items(where, before.astype(float)), items(where, after.astype(float)), truth)

    return draw


def gamma(rng: Random, n: int) -> Floats:
    """Skewed."""
    return rng.gamma(1.0, size=n)


def lognormal(rng: Random, n: int) -> Floats:
    """Heavy on one side."""
    return rng.lognormal(size=n)


def centred(rng: Random, n: int) -> Floats:
    """Heavy on one side, mean 0."""
    return rng.lognormal(size=n) - math.exp(0.5)


def normal(rng: Random, n: int) -> Floats:
    """The textbook's."""
    return rng.normal(size=n)


def student(rng: Random, n: int) -> Floats:
    """Heavy on both sides."""
    return rng.standard_t(4, size=n)


GENERAL = [(2_376, 0.4), (1_172, 0.25), (1_267, 0.6), (10_042, 0.35), (500, 0.3), (1_838, 0.6)]


def table() -> list[Row]:
    """Every row, in the order of the page."""
    rows = [Row(f"log-prob, gamma items, n = {n}", values(n, gamma, 1.0)) for n in (32, 64, 128, 1_531)]
    rows += [Row(f"log-prob, lognormal items, n = {n}", values(n, lognormal, math.exp(0.5))) for n in (64, 128, 1_000)]
    rows += [Row(f"log-prob, {c} clusters, ICC 0.5", clusters(c)) for c in (5, 9, 10, 20, 50, 200)]
    rows += [Row(f"accuracy 0.25, n = {n}", accuracy(n, 0.25)) for n in (20, 100, 1_172)]
    rows += [Row(f"accuracy 0.01, n = {n}", accuracy(n, 0.01)) for n in (100, 164, 500, 1_319)]
    rows += [
        Row(f"tau2, tasks a sample, {n} x {k} at {p}", simulations(n, k, p))
        for n, k, p in ((9, 2, 0.4), (50, 4, 0.4), (114, 4, 0.4), (9, 2, 0.1), (20, 4, 0.2), (50, 4, 0.05))
    ]
    rows += [Row(f"tau2, the same tasks, {n} x {k} at 0.4", repeats(n, k, 0.4)) for n, k in ((9, 2), (50, 4), (114, 4))]
    rows += [Row(f"tau2, pass^{k}, {n} x 4", passes(n, 4, k)) for n in (9, 50) for k in (2, 4)]
    rows.append(Row("suite average, general", suite(GENERAL)))
    rows += [Row(f"suite average, code at {p}", suite([(164, p), (500, p)])) for p in (0.01, 0.02)]
    rows += [
        Row(f"paired, log-prob, {name}, n = {n}", paired_values(n, sample))
        for name, sample in (("normal", normal), ("t(4)", student), ("lognormal", centred))
        for n in (64, 1_531)
    ]
    rows += [
        Row(f"paired, tau2, {n} x {k} at {p}, {100 * u:.0f}% of tasks unchanged", paired_simulations(n, k, p, u))
        for n, k, p, u in (
            *((50, 4, 0.4, u) for u in (0.0, 0.8, 1.0)),
            *((9, 2, 0.4, u) for u in (0.0, 0.8)),
            (50, 4, 0.05, 0.8),
        )
    ]
    rows += [
        Row(f"paired, accuracy {p}, n = {n}", paired_accuracy(n, p, t))
        for n, p, t in ((100, 0.25, 0.1), (1_172, 0.25, 0.1), (164, 0.01, 0.3), (1_319, 0.01, 0.3))
    ]
    return rows


class Cover(NamedTuple):
    """Percent of draws whose interval held the truth; None where there never is one."""

    name: str
    built: float
    stderr: float
    interval: float


def measured(position: int, draws: int) -> Cover:
    """One row's coverage, by its own seed."""
    row = table()[position]
    held = np.zeros(3)
    for _, one in zip(range(draws), row.draw(np.random.default_rng(position)), strict=False):
        away = abs(one.value - one.truth)
        held[0] += away <= Z * (one.built or 0.0)
        held[1] += away <= Z * (one.stderr or 0.0)
        held[2] += one.interval is not None and one.interval.low <= one.truth <= one.interval.high
    built, error, covered = (100 * held / draws).tolist()
    return Cover(row.name, built, error, covered)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=50_000)
    parser.add_argument("--rows", default="", help="only rows whose name has this in it")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    chosen = [position for position, row in enumerate(table()) if options.rows in row.name]
    print("| case | built | se | interval |\n|---|---|---|---|")
    with multiprocessing.Pool(options.processes) as pool:
        jobs = [pool.apply_async(measured, (position, options.draws)) for position in chosen]
        for job in jobs:
            row = job.get()
            print(f"| {row.name} | {row.built:.1f} | {row.stderr:.1f} | {row.interval:.1f} |", flush=True)


if __name__ == "__main__":
    main()
