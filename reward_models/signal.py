"""How much a component's score varies with the mixture, and how much by items, steps and seeds. Pure arithmetic.

Items are common to all runs, so their noise is the item x run residual (`residual.py`). A repeat is another seed of one
mixture: what repeats differ by is seed, step and items' noise together, in which the residual among repeats counts once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from harness.core.measurement import Interval
from harness.reward_models.interval import LEVEL
from harness.reward_models.items import Floats

SHORTEST_TAIL = 3
"""Steps from which on noise about a straight line is estimated."""


class RunScores(NamedTuple):
    """One run's scores by step, its last steps only, higher is better; the last one is its score. Finite, at least one."""

    mixture: int
    steps: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MixtureScores:
    """A component over mixtures: each one's mean score over its runs, and what its noise is estimated from. Shape [n_mixtures].

    `item`: variance of one run's score by the item x run residual over all runs, `item_of_repeats`: by that among runs of
    one mixture. None where it is not known.
    """

    mixtures: tuple[int, ...]
    mean: Floats
    n_runs: Floats
    seed_squares: Floats
    """Sum over runs of (score - mean)^2."""
    step_squares: Floats
    """Sum over runs and their last steps of the squared distance from the run's own straight line."""
    step_df: Floats
    item: float | None = None
    item_of_repeats: float | None = None

    def of(self, rows: Sequence[int]) -> MixtureScores:
        """Some of the mixtures, in another order."""
        where = list(rows)
        return MixtureScores(
            mixtures=tuple(self.mixtures[row] for row in where),
            mean=self.mean[where],
            n_runs=self.n_runs[where],
            seed_squares=self.seed_squares[where],
            step_squares=self.step_squares[where],
            step_df=self.step_df[where],
            item=self.item,
            item_of_repeats=self.item_of_repeats,
        )


def mixture_scores(
    runs: Sequence[RunScores], *, item: float | None = None, item_of_repeats: float | None = None
) -> MixtureScores:
    """From the runs of a component, mixtures in order of first appearance. Raises ValueError without any."""
    if not runs:
        raise ValueError("mixture_scores needs at least one run")
    by_mixture: dict[int, list[RunScores]] = {}
    for run in runs:
        by_mixture.setdefault(run.mixture, []).append(run)
    rows = []
    for members in by_mixture.values():
        last = np.array([run.values[-1] for run in members])
        squares, df = zip(*(_about_a_line(run) for run in members), strict=True)
        mean = math.fsum(last.tolist()) / len(last)
        rows.append((mean, len(last), float(((last - mean) ** 2).sum()), math.fsum(squares), sum(df)))
    columns = np.array(rows, dtype=np.float64).T
    return MixtureScores(
        mixtures=tuple(by_mixture),
        mean=columns[0],
        n_runs=columns[1],
        seed_squares=columns[2],
        step_squares=columns[3],
        step_df=columns[4],
        item=item,
        item_of_repeats=item_of_repeats,
    )


def _about_a_line(run: RunScores) -> tuple[float, int]:
    """Squares of what a straight line over the steps leaves, and their degrees of freedom; (0, 0) for too few steps."""
    if len(run.values) < SHORTEST_TAIL:
        return 0.0, 0
    x = np.array(run.steps) - np.mean(run.steps)
    y = np.array(run.values) - np.mean(run.values)
    left = y - x * (float(x @ y) / float(x @ x))
    return float(left @ left), len(run.values) - 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """Standard deviations in the component's unit, None where they are not known.

    `spread`: of the mixtures' mean scores as seen; `signal`: of what they would be without noise, 0 where noise explains
    the spread. `item`, `step`, `seed`: of one run's score. `noise`: of one run's score, from the seed (else the step) and the
    items. `snr`: signal / noise, with its 95% interval from F. `reliability`: share of the spread's variance that is signal.
    """

    n_mixtures: int
    n_runs: int
    mean: float
    spread: float | None
    signal: float | None
    item: float | None
    step: float | None
    seed: float | None
    noise: float | None
    snr: float | None
    snr_interval: Interval | None
    reliability: float | None
    seed_df: int
    step_df: int

    @property
    def moves(self) -> bool | None:
        """Whether it moves with the mixture by more than its noise; None where that is not known."""
        if self.noise == 0 and self.spread is not None:
            return self.spread > 0
        return None if self.snr_interval is None else self.snr_interval.low > 0


def signal_of(scores: MixtureScores) -> Signal:
    """Of all its mixtures."""
    n = len(scores.mean)
    seed_df, step_df = int((scores.n_runs - 1).sum()), int(scores.step_df.sum())
    seed = math.fsum(scores.seed_squares.tolist()) / seed_df if seed_df else None
    step = math.fsum(scores.step_squares.tolist()) / step_df if step_df else None
    training = (
        step if seed is None else max(seed, scores.item_of_repeats or 0.0)
    )  # repeats contain their items' noise too
    item = _item_part(scores, repeated=seed is not None)
    noise = None if training is None and item is None else (training or 0.0) + (item or 0.0)
    spread = float(np.var(scores.mean, ddof=1)) if n > 1 and np.ptp(scores.mean) > 0 else 0.0 if n > 1 else None
    made = Signal(
        n_mixtures=n,
        n_runs=int(scores.n_runs.sum()),
        mean=float(scores.mean.mean()),
        spread=_root(spread),
        signal=None,
        item=_root(scores.item),
        step=_root(step),
        seed=_root(seed),
        noise=_root(noise),
        snr=None,
        snr_interval=None,
        reliability=None,
        seed_df=seed_df,
        step_df=step_df,
    )
    if spread is None or noise is None:
        return made
    of_means = (training or 0.0) * float((1 / scores.n_runs).mean()) + (item or 0.0)
    signal = max(0.0, spread - of_means)
    snr = 0.0 if spread == 0 else math.sqrt(signal / noise) if noise > 0 else math.inf
    df = math.inf
    if training and of_means > (item or 0.0) and (known := seed_df or step_df):
        df = known * (of_means / (of_means - (item or 0.0))) ** 2  # Satterthwaite; items are many
    limits = _snr_limits(spread, of_means, noise, df_spread=n - 1, df_noise=df)
    return replace(
        made,
        signal=math.sqrt(signal),
        snr=snr if math.isfinite(snr) else None,
        snr_interval=limits,
        reliability=signal / spread if spread > 0 else 0.0,
    )


def _root(variance: float | None) -> float | None:
    return None if variance is None else math.sqrt(variance)


def _item_part(scores: MixtureScores, *, repeated: bool) -> float | None:
    """Variance that items add to what repeats show: their residual among repeats is in the seed's already."""
    if scores.item is None or not repeated or scores.item_of_repeats is None:
        return scores.item
    return max(0.0, scores.item - scores.item_of_repeats)


def _snr_limits(spread: float, of_means: float, noise: float, *, df_spread: int, df_noise: float) -> Interval | None:
    """From the F ratio of the mixtures' variance to that of their noise; None where there is no noise at all."""
    if noise <= 0 or of_means <= 0:
        return None if spread > 0 else Interval(0.0, 0.0)
    from scipy.special import fdtri

    ratio = spread / of_means
    tail = (1 - LEVEL) / 2
    limits = []
    for p in (1 - tail, tail):
        signal = max(0.0, ratio / float(fdtri(df_spread, min(df_noise, 1e9), p)) - 1) * of_means
        limits.append(math.sqrt(signal / noise))
    return Interval(*limits)


def reliabilities(scores: MixtureScores, drawn: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> Floats:
    """`Signal.reliability` of each draw of mixtures, shape [n_draws]; `drawn`: rows, shape [n_draws, n]. 1 where nothing is
    known of the noise; a draw without repeats (or without tails) takes the noise of all."""
    seed_df, step_df = float((scores.n_runs - 1).sum()), float(scores.step_df.sum())
    seeded = seed_df > 0
    item = _item_part(scores, repeated=seeded)
    if not seeded and step_df == 0 and item is None:
        return np.ones(len(drawn))
    squares, df = (scores.seed_squares, scores.n_runs - 1) if seeded else (scores.step_squares, scores.step_df)
    total = float(df.sum())
    usual = float(squares.sum()) / total if total > 0 else 0.0
    known = df[drawn].sum(axis=1)
    training = np.where(known > 0, squares[drawn].sum(axis=1) / np.maximum(known, 1), usual)
    if seeded:
        training = np.maximum(training, scores.item_of_repeats or 0.0)
    of_means = training * (1 / scores.n_runs)[drawn].mean(axis=1) + (item or 0.0)
    spread = scores.mean[drawn].var(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = np.clip(1 - of_means / spread, 0.0, 1.0)
    return np.where(spread > 0, found, 0.0)
