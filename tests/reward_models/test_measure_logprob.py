"""Eq. 1 of arXiv 2507.15640, against an independent computation; what cannot be scored never moves a mean."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.tokens import TokenPair
from harness.reward_models.logprob import METRIC, measure_logprob


def pair(name: str, n_tokens: int, n_bytes: int, cluster: str | None = None) -> TokenPair:
    ids = np.zeros(3 + n_tokens, dtype=np.int32)
    return TokenPair(id=name, ids=ids, n_context=3, n_bytes=n_bytes, cluster=cluster or name)


PAIRS = st.lists(
    st.tuples(st.integers(1, 50), st.integers(1, 300), st.floats(-500, 0), st.integers(0, 3)), min_size=1, max_size=20
)
Rows = list[tuple[int, int, float, int]]


def build(rows: Rows) -> tuple[list[TokenPair], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    pairs = [pair(str(i), tokens, size, f"c{cluster}") for i, (tokens, size, _, cluster) in enumerate(rows)]
    return pairs, np.array([logprob for _, _, logprob, _ in rows], dtype=np.float64)


@given(PAIRS)
def test_the_score_is_eq_1_and_bits_per_byte_is_over_the_whole_field(rows: Rows) -> None:
    pairs, logprob = build(rows)
    value = measure_logprob(pairs, logprob, n_items=len(rows))
    assert value.raw == pytest.approx(sum(lp / tokens for tokens, _, lp, _ in rows) / len(rows))
    bits = -sum(lp for _, _, lp, _ in rows) / math.log(2) / sum(size for _, size, _, _ in rows)
    assert value.detail["bits_per_byte"] == pytest.approx(bits)
    assert value.detail["n_tokens"] == sum(tokens for tokens, _, _, _ in rows)
    assert value.detail["n_bytes"] == sum(size for _, size, _, _ in rows)
    assert (value.status, value.n_items, value.n_scored, value.reason) == ("ok", len(rows), len(rows), None)
    assert (value.metric, value.higher_is_better) == (METRIC, True)


def test_the_error_of_bits_per_byte_is_that_of_a_ratio() -> None:
    rng = np.random.default_rng(0)
    seen, told = [], []
    for _ in range(400):
        sizes = rng.integers(20, 400, size=60)
        pairs = [pair(str(i), 5, int(size)) for i, size in enumerate(sizes)]
        nats = -sizes * rng.normal(0.7, 0.2, size=60)
        value = measure_logprob(pairs, nats, n_items=60)
        seen.append(value.detail["bits_per_byte"])
        told.append(value.detail["bits_per_byte_stderr"])
    assert np.mean(told) == pytest.approx(np.std(seen), rel=0.1)
    alone = measure_logprob([pair("a", 2, 4)], np.array([-3.0]), n_items=1)
    assert alone.detail["bits_per_byte"] is not None and alone.detail["bits_per_byte_stderr"] is None


def test_the_mean_over_pairs_is_unweighted() -> None:
    value = measure_logprob([pair("long", 100, 400), pair("short", 1, 4)], np.array([-100.0, -3.0]), n_items=2)
    assert value.raw == -2.0, "not (-103 / 101) per token"
    assert value.stderr == 1.0, "std of (-1, -3) with ddof 1 over sqrt 2"


def test_pairs_of_one_conversation_are_one_cluster() -> None:
    pairs = [pair(str(i), 1, 4, cluster) for i, cluster in enumerate("aabb")]
    value = measure_logprob(pairs, np.array([-1.0, -1.0, -3.0, -3.0]), n_items=4)
    assert value.stderr == pytest.approx(math.sqrt(2 * (4 + 4) / 16))


def test_a_single_pair_has_no_standard_error() -> None:
    value = measure_logprob([pair("a", 2, 4)], np.array([-3.0]), n_items=1)
    assert (value.raw, value.stderr, value.status) == (-1.5, None, "ok")


@given(PAIRS, st.data())
def test_a_failed_item_never_moves_the_score(rows: Rows, data: st.DataObject) -> None:
    pairs, logprob = build(rows)
    whole = measure_logprob(pairs, logprob, n_items=len(rows))
    at = data.draw(st.integers(0, len(rows)))
    bad = data.draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    broken = measure_logprob(
        [*pairs[:at], pair("bad", 7, 9), *pairs[at:]], np.insert(logprob, at, bad), n_items=len(rows) + 1
    )
    assert (broken.raw, broken.stderr) == (whole.raw, whole.stderr)
    assert broken.detail == {**whole.detail, "n_failed": 1}
    assert (broken.status, broken.n_scored, broken.n_items) == ("partial", len(rows), len(rows) + 1)
    assert broken.reason == f"log-prob not finite in 1 of {len(rows) + 1} pairs, first in pair bad"


@given(PAIRS, st.randoms())
def test_the_order_of_pairs_does_not_matter(rows: Rows, random: Random) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    one, other = (measure_logprob(*build(some), n_items=len(rows)) for some in (rows, shuffled))
    assert other == one


def test_skipped_pairs_make_it_partial_and_are_counted() -> None:
    value = measure_logprob([pair("a", 1, 4)], np.array([-1.0]), n_items=3, detail={"n_skipped": 2})
    assert (value.status, value.n_scored, value.n_items) == ("partial", 1, 3)
    assert value.detail["n_skipped"] == 2


def test_all_failed_is_a_failed_measurement_and_never_zero() -> None:
    value = measure_logprob([pair("a", 1, 4), pair("b", 1, 4)], np.array([math.nan, -math.inf]), n_items=2)
    assert (value.raw, value.stderr, value.status, value.n_scored) == (None, None, "failed", 0)
    assert value.reason == "log-prob not finite in 2 of 2 pairs, first in pair a"


def test_nothing_to_score_is_a_failed_measurement() -> None:
    value = measure_logprob([], np.array([], dtype=np.float64), n_items=4)
    assert (value.raw, value.status, value.reason) == (None, "failed", "no pair of the field could be scored")


def test_a_response_of_no_bytes_has_no_bits_per_byte() -> None:
    value = measure_logprob([pair("eos", 1, 0)], np.array([-1.0]), n_items=1)
    assert value.detail["bits_per_byte"] is None
