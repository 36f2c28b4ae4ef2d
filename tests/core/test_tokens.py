"""The overflow policy: a pair that does not fit the context is never cut silently."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import DataError
from harness.core.tokens import TokenPair, fit_context


def pair(n_context: int, n_response: int, name: str = "p") -> TokenPair:
    return TokenPair(
        id=name,
        ids=np.arange(n_context + n_response, dtype=np.int32),
        n_context=n_context,
        n_bytes=n_response,
        cluster=name,
    )


SIZES = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 6)), min_size=1, max_size=8)


@given(SIZES, st.integers(1, 12))
def test_skip_keeps_exactly_what_fits_and_counts_the_rest(sizes: list[tuple[int, int]], max_length: int) -> None:
    pairs = [pair(q, r, str(index)) for index, (q, r) in enumerate(sizes)]
    fitted = fit_context(pairs, max_length, "skip")
    assert fitted.skipped == {index for index, (q, r) in enumerate(sizes) if q + r - 1 > max_length}
    assert [p.id for p in fitted.pairs] == [p.id for index, p in enumerate(pairs) if index not in fitted.skipped]
    assert fitted.n_truncated == 0


@given(SIZES, st.integers(6, 12))
def test_truncate_cuts_q_from_the_left_and_never_r(sizes: list[tuple[int, int]], max_length: int) -> None:
    pairs = [pair(q, r, str(index)) for index, (q, r) in enumerate(sizes)]
    fitted = fit_context(pairs, max_length, "truncate")
    for before, after in zip(pairs, fitted.pairs, strict=True):
        assert len(after.ids) - 1 <= max_length
        assert after.n_context >= 1
        assert after.ids.tolist() == before.ids[len(before.ids) - len(after.ids) :].tolist()
        assert after.n_tokens == before.n_tokens
        assert after.truncated == (len(after.ids) < len(before.ids))
    assert fitted.n_truncated == sum(p.truncated for p in fitted.pairs)


def test_a_pair_that_just_fits_is_left_alone_because_its_last_token_is_never_read() -> None:
    assert fit_context([pair(5, 4)], 8, "fail").pairs[0].n_context == 5


def test_fail_names_the_pair_its_size_and_the_way_out() -> None:
    with pytest.raises(DataError, match=r"pair long: pair of 9 tokens exceeds .* of 8; set overflow: skip or"):
        fit_context([pair(1, 1), pair(6, 4, "long")], 8, "fail")


def test_a_response_that_alone_does_not_fit_is_refused_rather_than_cut() -> None:
    with pytest.raises(DataError, match="response alone of 9 tokens"):
        fit_context([pair(2, 9)], 8, "truncate")
