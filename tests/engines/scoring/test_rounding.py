"""The rounding that a proof allows is that of every part of a model; frequencies and contexts are each sequence's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tiny
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from harness.core.component import SilentProgress
from harness.core.errors import EngineError
from harness.core.tokens import TokenPair
from harness.engines.scoring.packs import PackPlan
from harness.engines.scoring.proof import one_by_one, prove, rounding
from harness.engines.scoring.score import score

VOCABULARY = 404


def pairs(count: int = 30, longest: int = 90) -> list[TokenPair]:
    rng = np.random.default_rng(0)
    beginning = rng.integers(2, VOCABULARY, 40)
    found = []
    for index in range(count):
        ids = np.concatenate([beginning[: int(rng.integers(1, 40))], rng.integers(2, VOCABULARY, longest - 40)])
        ids = ids[: int(rng.integers(5, len(ids) + 1))].astype(np.int32)
        context = int(rng.integers(1, len(ids)))
        found.append(TokenPair(id=str(index), ids=ids, n_context=context, n_bytes=1, cluster=str(index)))
    return found


def truth(make: Callable[[], Any], items: Sequence[TokenPair]) -> npt.NDArray[np.float64]:
    """Nats per token: each pair through a model that has seen nothing before it, log-softmax in float64."""
    found = []
    for pair in items:
        ids = torch.from_numpy(pair.ids.astype(np.int64))
        with torch.no_grad():
            logprob = torch.log_softmax(make()(input_ids=ids[None, :-1]).logits[0].double(), dim=-1)
        rows = torch.arange(pair.n_context - 1, len(ids) - 1)
        found.append(float(logprob[rows, ids[pair.n_context :]].mean()))
    return np.array(found)


def per_token(model: Any, items: list[TokenPair]) -> npt.NDArray[np.float64]:
    scores = score(model, PackPlan(items), progress=SilentProgress()).logprob
    return scores / np.array([pair.n_tokens for pair in items])


@pytest.mark.parametrize("off", [1e-3, float("nan")])
def test_one_wrong_score_among_those_compared_does_not_pass(off: float) -> None:
    items, model = pairs(5), tiny.llama()
    logprob = one_by_one(model, items)
    assert prove(model, items, range(5), logprob, path="packed").holds
    logprob[2] += off
    assert not prove(model, items, range(5), logprob, path="packed").holds


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_frequencies_that_follow_the_length_of_a_pass_are_each_sequences_own(dtype: torch.dtype) -> None:
    def make() -> Any:
        rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
        return tiny.llama(max_position_embeddings=32, rope_parameters=rope).to(dtype)

    items = pairs()
    assert max(len(pair.ids) for pair in items) > 40 and min(len(pair.ids) for pair in items) < 30
    expected, model = truth(make, items), make()
    found = per_token(model, items)
    assert np.abs(found - expected).max() < (1e-5 if dtype == torch.float32 else 0.06)
    assert per_token(model, items[::-1])[::-1].tolist() == found.tolist()


def bart() -> Any:
    sizes = {"d_model": 64, "decoder_layers": 6, "decoder_attention_heads": 4, "decoder_ffn_dim": 128, "init_std": 0.2}
    config = AutoConfig.for_model("bart", vocab_size=VOCABULARY, encoder_layers=1, encoder_attention_heads=4, **sizes)
    return AutoModelForCausalLM.from_config(config).eval()


def sharp() -> Any:
    return tiny.llama(num_hidden_layers=1, initializer_range=1.0)


@pytest.mark.filterwarnings("ignore:BartForCausalLM is scored by the padded path")
@pytest.mark.parametrize("make", [bart, sharp])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_rounding_of_every_part_is_measured(make: Callable[[], Any], dtype: torch.dtype) -> None:
    """Of a model whose configuration does not count its layers, and of attention in a first layer that turns on a last place."""
    items = pairs()
    torch.manual_seed(0)
    model = make().to(dtype)
    n_tokens = np.array([pair.n_tokens for pair in items])
    alone = one_by_one(model, items) / n_tokens
    found = rounding(model, items, alone, seeds=2)
    assert np.abs(per_token(model, items) - alone).max() < 4 * found
    head_only = torch.finfo(dtype).eps
    assert found > head_only / 4


def test_a_context_that_the_model_has_no_embedding_for_is_named() -> None:
    items = [TokenPair(id="a", ids=np.array([5, 500, 6], dtype=np.int32), n_context=2, n_bytes=1, cluster="a")]
    with pytest.raises(EngineError, match=r"pair a: token id 500 has no place in a vocabulary of 404"):
        score(tiny.llama(), PackPlan(items), progress=SilentProgress())
