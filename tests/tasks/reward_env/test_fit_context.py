"""Pairs longer than the model's context: never cut silently, and cut as lm-eval cuts where the spec says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import DataError
from harness.core.pair import Pair
from harness.core.tokens import Overflow, TokenPair, fit_context
from harness.tasks.reward_env.encode import encode


def pair(n_context: int, n_response: int, name: str = "p") -> TokenPair:
    ids = np.arange(n_context + n_response, dtype=np.int32)
    return TokenPair(id=name, ids=ids, n_context=n_context, n_bytes=n_response, cluster=name)


@pytest.mark.parametrize("overflow", ["fail", "skip", "truncate"])
def test_a_pair_of_n_tokens_fits_a_context_of_n_minus_1(overflow: Overflow) -> None:
    exact = pair(6, 5)
    fitted = fit_context([exact], 10, overflow)
    assert fitted.pairs == (exact,)
    assert (fitted.skipped, fitted.n_truncated) == (frozenset(), 0)


def test_one_token_more_fails_with_pair_size_context_and_what_to_do() -> None:
    with pytest.raises(DataError) as caught:
        fit_context([pair(6, 5), pair(7, 5, "long")], 10, "fail")
    assert str(caught.value) == (
        "pair long: pair of 11 tokens exceeds the model's context of 10; "
        "set overflow: skip or overflow: truncate in the spec (or --overflow), or shorten the field"
    )


def test_skipped_pairs_are_counted_by_position_and_the_rest_stay_in_order() -> None:
    pairs = [pair(9, 9, "a"), pair(1, 1, "b"), pair(1, 30, "c"), pair(2, 2, "d")]
    fitted = fit_context(pairs, 10, "skip")
    assert [item.id for item in fitted.pairs] == ["b", "d"]
    assert fitted.skipped == {0, 2}
    assert fitted.n_truncated == 0


def test_truncation_cuts_q_from_the_left_and_marks_the_pair() -> None:
    (cut,) = fit_context([pair(20, 4)], 10, "truncate").pairs
    assert cut.ids.tolist() == list(range(13, 24))
    assert (cut.n_context, cut.n_tokens, cut.n_bytes, cut.truncated) == (7, 4, 4, True)


def test_a_response_as_long_as_the_context_keeps_one_token_of_q() -> None:
    (cut,) = fit_context([pair(20, 10)], 10, "truncate").pairs
    assert (cut.n_context, cut.n_tokens) == (1, 10)


def test_a_response_that_alone_does_not_fit_is_never_cut() -> None:
    with pytest.raises(DataError) as caught:
        fit_context([pair(1, 11, "long")], 10, "truncate")
    assert str(caught.value).startswith(
        "pair long: response alone of 11 tokens exceeds the model's context of 10; set overflow: skip in the spec"
    )


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 12)), max_size=10),
    st.integers(12, 25),
    st.sampled_from(["skip", "truncate"]),
)
def test_what_is_kept_fits_and_every_response_is_whole(
    sizes: list[tuple[int, int]], max_length: int, overflow: Overflow
) -> None:
    pairs = [pair(*size, name=str(n)) for n, size in enumerate(sizes)]
    fitted = fit_context(pairs, max_length, overflow)
    assert len(fitted.pairs) + len(fitted.skipped) == len(pairs)
    originals = [item for position, item in enumerate(pairs) if position not in fitted.skipped]
    for kept, original in zip(fitted.pairs, originals, strict=True):
        assert kept.id == original.id
        assert len(kept.ids) - 1 <= max_length
        assert 1 <= kept.n_context < len(kept.ids)
        assert kept.ids[kept.n_context :].tolist() == original.ids[original.n_context :].tolist()
        assert kept.truncated is (len(kept.ids) < len(original.ids))
    assert fitted.n_truncated == sum(kept.truncated for kept in fitted.pairs)


@pytest.mark.parametrize("max_length", [12, 20, 40])
def test_a_truncated_pair_is_what_lm_eval_gives_its_model(max_length: int) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    inputs: list[list[int]] = []

    class Recorder(HFLM):
        def _model_call(self, inps: Any, **rest: Any) -> Any:
            inputs.append(inps[0].tolist())
            return super()._model_call(inps, **rest)

    tokenizer = tiny.tokenizer()
    texts = [("The quick brown fox jumps over the lazy dog. " * n, " return a") for n in (1, 2, 3, 4)]
    model = Recorder(
        pretrained=tiny.llama(),
        tokenizer=tokenizer,
        max_length=max_length,
        batch_size=1,
        device="cpu",
        logits_cache=False,
    )
    requests = [Instance(request_type="loglikelihood", doc={}, arguments=text, idx=0) for text in texts]
    model.loglikelihood(requests, disable_tqdm=True)

    encoded = encode(tokenizer, [Pair(id=str(n), q=q, r=r) for n, (q, r) in enumerate(texts)]).pairs
    fitted = fit_context(encoded, max_length, "truncate")
    assert fitted.n_truncated
    assert sorted(inputs) == sorted(item.ids[:-1].tolist() for item in fitted.pairs)
