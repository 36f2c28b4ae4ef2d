"""Models that somebody has changed: scored as they are now, not as their class or an earlier call would have them."""

from __future__ import annotations

import threading
from types import MethodType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tiny
import torch
import torch.nn.functional as F
from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from harness.core.component import SilentProgress
from harness.core.errors import EngineError
from harness.core.tokens import TokenPair
from harness.engines.scoring.packs import PackPlan
from harness.engines.scoring.score import score

RNG = np.random.default_rng(0)
PAIRS = [
    TokenPair(id=str(i), ids=RNG.integers(0, 404, n).astype(np.int32), n_context=n // 2, n_bytes=1, cluster=str(i))
    for i, n in enumerate((3, 9, 40, 90, 120))
]


def scored(model: Any) -> npt.NDArray[np.float64]:
    return score(model, PackPlan(PAIRS), progress=SilentProgress()).logprob


def slow(model: Any) -> npt.NDArray[np.float64]:
    """One pair at a time by the model as it is called, in float64 from the logits on."""
    totals = []
    with torch.no_grad():
        for pair in PAIRS:
            ids = torch.tensor(pair.ids[None, :-1].astype(np.int64))
            logprob = torch.log_softmax(model(input_ids=ids).logits[0].double(), dim=-1)
            rows = np.arange(pair.n_context - 1, len(pair.ids) - 1)
            totals.append(float(logprob[rows, pair.ids[pair.n_context :]].sum()))
    return np.array(totals)


def agree(model: Any) -> bool:
    n_tokens = np.array([pair.n_tokens for pair in PAIRS])
    return bool((np.abs(scored(model) - slow(model)) / n_tokens).max() < 1e-5)


@pytest.mark.parametrize("position", [0, 2, 3])
@pytest.mark.parametrize("wrong", [404, -100])
def test_a_token_that_the_vocabulary_lacks_is_named_wherever_it_stands(position: int, wrong: int) -> None:
    ids = np.array([1, 2, 3, 4], dtype=np.int32)
    ids[position] = wrong
    pair = TokenPair(id="odd", ids=ids, n_context=2, n_bytes=1, cluster="")
    with pytest.raises(EngineError, match=rf"pair odd: token id {wrong} has no place in a vocabulary of 404"):
        score(tiny.llama(), PackPlan([*PAIRS, pair]), progress=SilentProgress())


def test_a_window_that_llama_ignores_is_ignored() -> None:
    assert agree(tiny.llama(sliding_window=40))


@pytest.mark.parametrize("name", ["mistral", "qwen2", "qwen3"])
def test_windows_longer_than_what_is_tried_are_kept(name: str) -> None:
    changes: dict[str, Any] = {"sliding_window": 40}
    if name != "mistral":
        changes |= {"use_sliding_window": True, "layer_types": ["full_attention", "sliding_attention"]}
    model = tiny.family(name, **changes)
    assert agree(model)
    wide = tiny.family(name, **{**changes, "sliding_window": 1000})
    assert np.abs(slow(model) - slow(wide)).max() > 1e-2


def half(self: Any, hidden: torch.Tensor) -> torch.Tensor:
    return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + 0.5)


@pytest.mark.parametrize("before", [False, True])
def test_code_that_somebody_put_into_a_class_is_run(before: bool) -> None:
    model = tiny.llama(num_hidden_layers=4 if before else 5)  # no other test has found out how these are scored
    if before:
        assert agree(model)
    unchanged, own = slow(model), LlamaRMSNorm.forward
    LlamaRMSNorm.forward = half
    try:
        assert agree(model)
        assert np.abs(slow(model) - unchanged).max() > 1e-2
    finally:
        LlamaRMSNorm.forward = own
    assert agree(model)


def test_a_hook_on_the_head_since_the_last_call_is_run() -> None:
    model = tiny.llama()
    assert agree(model)
    model.lm_head.register_forward_hook(lambda _module, _args, out: out * 0.5)
    assert agree(model)


def test_a_head_with_a_forward_of_its_own_is_run() -> None:
    model = tiny.llama()
    model.lm_head.forward = MethodType(lambda self, x: F.linear(x, self.weight) * 0.5, model.lm_head)
    assert agree(model)


@pytest.mark.filterwarnings("ignore:.*is scored by the padded path")
def test_a_prefix_after_an_adapter_on_the_same_base_is_read() -> None:
    assert agree(tiny.lora(tiny.llama()))
    torch.manual_seed(0)
    assert agree(get_peft_model(tiny.llama(), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)).eval())


def test_a_prompt_of_virtual_tokens_is_refused() -> None:
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    with pytest.warns(UserWarning, match="virtual tokens"), pytest.raises(EngineError, match="returns logits of shape"):
        scored(get_peft_model(tiny.llama(), config).eval())


def test_frequencies_for_long_texts_are_not_used_for_short_ones_beside_them() -> None:
    config = AutoConfig.for_model(
        "llama",
        **{**tiny.FAMILIES["llama"][1], "max_position_embeddings": 256},
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10_000.0,
            "short_factor": [1.0] * 4,
            "long_factor": [1.0, 2.0, 3.0, 4.0],
            "original_max_position_embeddings": 64,
        },
    )
    torch.manual_seed(0)
    assert agree(AutoModelForCausalLM.from_config(config).eval())


def sharper_far_away(module: Any, query: Any, key: Any, value: Any, mask: Any, **kwargs: Any) -> Any:
    """Stock attention for short texts."""
    return sdpa_attention_forward(module, query * (1.0 if query.shape[2] < 35 else 2.0), key, value, mask, **kwargs)


@pytest.mark.filterwarnings("ignore:.*is scored by the padded path")
def test_attention_that_somebody_registered_is_run() -> None:
    AttentionInterface.register("sharper", sharper_far_away)
    model = tiny.llama()
    model.set_attn_implementation("sharper")
    one = TokenPair(id="x", ids=PAIRS[-1].ids, n_context=PAIRS[-1].n_context, n_bytes=1, cluster="")
    found = score(model, PackPlan([one]), progress=SilentProgress()).logprob
    assert found == pytest.approx(slow(model)[-1:], abs=1e-3)
    assert abs(float(slow(model)[-1] - slow(tiny.llama())[-1])) > 1e-2


def test_two_threads_on_one_model_get_its_scores_and_leave_it_as_it_was() -> None:
    model = tiny.llama()
    before = model.config._attn_implementation
    expected = scored(model)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(scored(model))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all((values == expected).all() for values in found)
    assert model.config._attn_implementation == before
