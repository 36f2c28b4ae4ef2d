"""How often the intervals of `harness validate` hold the truth, by simulation: the table of docs/validate.md.

    python benchmarks/agreement.py                 # 1,000 studies a row, minutes
    python benchmarks/agreement.py --draws 100     # a look

A study: mixtures whose true scores on proxy and target are normal with correlation r, two runs of each, the seed's noise a share of
the true standard deviation on both sides.
"""

from __future__ import annotations

import argparse
import math
from typing import NamedTuple

import numpy as np

from harness.reward_models.agreement import Estimated, agreement
from harness.reward_models.signal import MixtureScores, RunScores, mixture_scores, signal_of
from harness.reward_models.steering import verdict


class Study(NamedTuple):
    """A row."""

    n: int
    r: float
    noise: float


def runs(rng: np.random.Generator, true: np.ndarray[tuple[int], np.dtype[np.float64]], noise: float) -> MixtureScores:
    """Two of each mixture."""
    return mixture_scores(
        [RunScores(m, (1.0,), (float(t + noise * rng.normal()),)) for m, t in enumerate(true) for _ in range(2)]
    )


def held(one: Estimated | None, truth: float) -> bool:
    """Whether the corrected interval does; there is none where a score may be all noise, which claims nothing."""
    return (
        one is None
        or one.corrected_interval is None
        or one.corrected_interval.low <= truth <= one.corrected_interval.high
    )


def row(study: Study, draws: int) -> str:
    """One line of the table."""
    rng = np.random.default_rng(0)
    rank, right = 6 / math.pi * math.asin(study.r / 2), 0.5 + math.asin(study.r) / math.pi
    counts = np.zeros(4)
    seen, corrected = [], []
    for _ in range(draws):
        truth = rng.normal(size=study.n)
        goal = study.r * truth + math.sqrt(1 - study.r**2) * rng.normal(size=study.n)
        proxy, target = runs(rng, truth, study.noise), runs(rng, goal, study.noise)
        found, signal = agreement(proxy, target), signal_of(proxy)
        limits = signal.snr_interval
        counts += (
            held(found.rank, rank),
            held(found.decisions, right),
            limits is not None and limits.low <= 1 / study.noise <= limits.high,
            verdict(signal, found) == "steers",
        )
        if found.rank is not None and found.rank.corrected is not None:
            seen.append(found.rank.seen)
            corrected.append(found.rank.corrected)
    percent = " | ".join(f"{100 * count / draws:.1f}" for count in counts)
    means = f"{np.mean(seen):.2f} | {np.mean(corrected):.2f}"
    return f"| {study.n} | {study.r:.1f} | {study.noise:.1f} | {rank:.2f} | {means} | {percent} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1_000)
    options = parser.parse_args()
    print(
        "| mixtures | r | noise | rank: true | seen | corrected | rank held | decisions held | signal/noise held | steers |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for n in (8, 16, 32):
        for r in (0.0, 0.6, 0.9):
            print(row(Study(n, r, 0.5), options.draws), flush=True)
    for study in (Study(16, 0.6, 0.2), Study(5, 0.9, 0.1), Study(6, 0.9, 0.1)):
        print(row(study, options.draws), flush=True)


if __name__ == "__main__":
    main()
