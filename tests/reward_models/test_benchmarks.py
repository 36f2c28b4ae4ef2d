"""Averages of benchmarks: the paper's row, and what may never happen to a mean."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.reward_models import statistics
from harness.reward_models.benchmarks import Score, average, averages, gold_scores
from harness.tasks.suites.catalog import benchmark_of, suites

BASE_MODEL = {
    **{"MMLU": 34.5, "HellaSwag": 64.5, "OpenBookQA": 37.0, "WinoGrande": 61.56, "ARC-Challenge": 36.69, "PIQA": 75.84},
    **{"SciQ": 84.2, "LogiQA": 28.11, "GSM8K": 2.55, "Minerva": 4.1, "MATH": 4.22, "MathQA": 24.52},
}
"""LLaMA-3B-DCLM-100B, base model, in percent: a row of Table 1a of arXiv 2507.15640."""
NAMES = {suite: [benchmark.name for benchmark in benchmarks] for suite, benchmarks in suites().items()}
VALUES = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0, 1), min_size=1)


def test_the_papers_row_comes_out() -> None:
    scores = {name: Score(value=value) for name, value in BASE_MODEL.items()}
    made = averages({suite: NAMES[suite] for suite in ("general", "math")}, scores)
    assert made.suites["general"].value == pytest.approx(52.8, abs=0.005)
    assert made.suites["math"].value == pytest.approx(8.85, abs=0.005)
    assert made.overall.value == pytest.approx(38.15, abs=0.005)
    assert made.overall.n == 12 and made.overall.missing == ()


def test_the_table_has_the_papers_benchmarks_and_examples() -> None:
    assert [len(names) for names in NAMES.values()] == [8, 4, 2]
    shots = {b.name: b.num_fewshot for benchmarks in suites().values() for b in benchmarks}
    assert {name: n for name, n in shots.items() if n} == {"MMLU": 5, "GSM8K": 5, "Minerva": 4, "MBPP": 3}
    assert benchmark_of("humaneval") is benchmark_of("harness_humaneval") is not None
    assert benchmark_of("boolq") is None


@given(values=VALUES, lost=st.integers(0, 7))
def test_a_missing_benchmark_is_never_a_smaller_mean(values: dict[str, float], lost: int) -> None:
    scores: dict[str, Score | None] = {name: Score(value=value, stderr=0.1) for name, value in values.items()}
    whole = average(list(values), scores)
    assert whole.value == pytest.approx(sum(values.values()) / len(values))
    assert whole.stderr == pytest.approx(math.sqrt(0.01 * len(values)) / len(values))
    gone = sorted(values)[lost % len(values)]
    without = average(list(values), {**scores, gone: None})
    assert without.value is None and without.stderr is None and without.missing == (gone,)


@given(values=VALUES, seed=st.randoms())
def test_the_order_of_benchmarks_does_not_matter(values: dict[str, float], seed: object) -> None:
    scores = {name: Score(value=value, stderr=value / 7) for name, value in values.items()}
    names = sorted(values)
    assert average(names, scores) == average(names[::-1], scores)


def test_without_one_standard_error_the_averages_is_unknown() -> None:
    made = average(["a", "b"], {"a": Score(value=0.5, stderr=0.1), "b": Score(value=0.7)})
    assert made.value == pytest.approx(0.6) and made.stderr is None


def test_gold_scores_are_those_of_a_field() -> None:
    made = gold_scores([-2.0, -3.0], [2, 1], [4, 6])
    assert made.bits_per_byte == pytest.approx(5 / (math.log(2) * 10))
    assert made.logprob_per_token == pytest.approx((-1 - 3) / 2)
    both = statistics.bits_per_byte([-2.0, -3.0], [4, 6], ["a", "b"])
    assert both is not None and (made.bits_per_byte, made.bits_per_byte_stderr) == both
    assert gold_scores([], [], []).bits_per_byte is None
