"""Averages of benchmarks as arXiv 2507.15640 forms them, and the gold answers' bits per byte. Pure arithmetic, no I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.reward_models.statistics import bits_per_byte


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A benchmark's value and standard error, in [0, 1] or in percent; `stderr` None where it is not known."""

    value: float
    stderr: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """The plain mean of `n` benchmarks. None while any of them is missing: the mean of the others is another number."""

    value: float | None
    stderr: float | None
    n: int
    missing: tuple[str, ...] = ()


def average(names: Sequence[str], scores: Mapping[str, Score | None]) -> Average:
    """The plain mean over `names`; independent benchmarks, so its standard error is sqrt(sum se^2) / n."""
    found = {name: score for name in names if (score := scores.get(name)) is not None}
    missing = tuple(name for name in names if name not in found)
    if missing or not names:
        return Average(value=None, stderr=None, n=len(names), missing=missing)
    errors = [score.stderr for score in found.values() if score.stderr is not None]
    return Average(
        value=math.fsum(score.value for score in found.values()) / len(found),
        stderr=math.sqrt(math.fsum(e * e for e in errors)) / len(found) if len(errors) == len(found) else None,
        n=len(found),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Averages:
    """Every suite's average, and `overall`: the plain mean over all benchmarks of those suites, not over the suites."""

    suites: Mapping[str, Average]
    overall: Average


def averages(suites: Mapping[str, Sequence[str]], scores: Mapping[str, Score | None]) -> Averages:
    """The averages of a table whose columns are benchmarks, grouped into suites."""
    every = [name for names in suites.values() for name in names]
    return Averages(
        suites={suite: average(names, scores) for suite, names in suites.items()}, overall=average(every, scores)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldScores:
    """Of the right answers: bits per byte over all of them (as a log-prob field's), and the mean nats per token (Eq. 1)."""

    bits_per_byte: float | None
    bits_per_byte_stderr: float | None
    logprob_per_token: float | None


def gold_scores(nats: Sequence[float], n_tokens: Sequence[int], n_bytes: Sequence[int]) -> GoldScores:
    """bits_per_byte = -sum nats / (ln 2 * sum bytes); logprob_per_token = 1/n sum_j nats_j / tokens_j. None without answers."""
    bits = bits_per_byte(nats, n_bytes, range(len(nats)))
    if bits is None:
        return GoldScores(bits_per_byte=None, bits_per_byte_stderr=None, logprob_per_token=None)
    return GoldScores(
        bits_per_byte=bits.mean,
        bits_per_byte_stderr=bits.stderr,
        logprob_per_token=math.fsum(n / t for n, t in zip(nats, n_tokens, strict=True)) / len(nats),
    )
