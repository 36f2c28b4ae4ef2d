"""Scores count because they are compared with one sequence at a time on the checkpoint at hand, not because a trial went well once."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from harness.core.component import SilentProgress
from harness.core.errors import EngineError
from harness.core.tokens import TokenPair
from harness.engines.scoring import recipe as recipes
from harness.engines.scoring.packed_forward import Recipe
from harness.engines.scoring.packs import PackPlan
from harness.engines.scoring.probe import probe
from harness.engines.scoring.proof import N_DRAWN, prove, rounding, sample
from harness.engines.scoring.score import score
from harness.engines.scoring.scores import Scores
from harness.engines.scoring.structure import limits, obstacle

CPU = torch.device("cpu")
WINDOW = 16
SIZES: dict[str, Any] = {
    **{"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.2, "pad_token_id": None},
}


def pairs() -> list[TokenPair]:
    rng = np.random.default_rng(0)
    beginning = rng.integers(2, 300, 60)
    found = []
    for index in range(20):
        shared = beginning[: int(rng.integers(0, 60)) if index % 2 else 0]
        ids = np.concatenate([shared, rng.integers(2, 300, int(rng.integers(2, 40)))]).astype(np.int32)
        context = int(rng.integers(1, len(ids)))
        found.append(TokenPair(id=str(index), ids=ids, n_context=context, n_bytes=1, cluster=str(index)))
    return found


PAIRS = pairs()
N_TOKENS = np.array([pair.n_tokens for pair in PAIRS])


def build(name: str, dtype: torch.dtype = torch.float32, seed: int = 1, **changes: Any) -> Any:
    torch.manual_seed(seed)
    config = AutoConfig.for_model(name, **{**SIZES, **changes})
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(dtype).eval()


def scored(model: Any) -> Scores:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return score(model, PackPlan(PAIRS), progress=SilentProgress())


def truth(model: Any) -> Any:
    """Nats per token, one sequence at a time, log-softmax in float64."""
    found = []
    with torch.no_grad():
        for pair in PAIRS:
            ids = torch.from_numpy(pair.ids.astype(np.int64))
            logprob = torch.log_softmax(model(input_ids=ids[None, :-1], use_cache=False).logits[0].double(), dim=-1)
            rows = torch.arange(pair.n_context - 1, len(ids) - 1)
            found.append(float(logprob[rows, ids[pair.n_context :]].mean()))
    return np.array(found)


def check(model: Any, path: str, within: float = 1e-5) -> None:
    found = scored(model)
    assert found.proof is not None and found.proof.path == path
    assert float(np.abs(found.logprob / N_TOKENS - truth(model)).max()) < within


MASKED: dict[str, dict[str, Any]] = {
    "phimoe": {"sliding_window": WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2, "router_jitter_noise": 0.0},
    "llama4_text": {"attention_chunk_size": WINDOW, "num_local_experts": 2, "floor_scale": WINDOW, "head_dim": 8},
}


@pytest.mark.parametrize("name", MASKED)
def test_a_window_that_is_in_the_mask_alone_is_not_lost(name: str) -> None:
    check(build(name, **MASKED[name]), "padded")


def test_a_window_that_attention_is_told_of_is_packed() -> None:
    check(build("mistral", sliding_window=WINDOW), "packed")


STATEFUL: dict[str, dict[str, Any]] = {
    "bloom": {"n_layer": 2, "n_head": 4},
    "mamba": {"state_size": 4},
    "jamba": {
        "num_experts": 2,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "mamba_d_state": 4,
    },
}


def uninformative(name: str, kind: str, dtype: torch.dtype, changes: dict[str, Any]) -> Any:
    model = build(name, dtype, **{**changes, **({"initializer_range": 0.001} if kind == "fresh" else {})})
    with torch.no_grad():
        if kind == "zero head":
            model.get_output_embeddings().weight.zero_()
        if kind == "NaN":
            next(model.parameters()).fill_(float("nan"))
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["fresh", "zero head", "NaN"])
@pytest.mark.parametrize("name", STATEFUL)
def test_weights_that_show_nothing_decide_nothing_for_others(name: str, kind: str, dtype: torch.dtype) -> None:
    scored(uninformative(name, kind, dtype, STATEFUL[name]))
    model = build(name, dtype, 2, **STATEFUL[name])
    after = scored(model)
    recipes._OUTCOMES.clear()
    alone = scored(model)
    assert after.logprob.tolist() == alone.logprob.tolist()
    assert after.proof is not None and after.proof.path == "padded"


@pytest.mark.parametrize("kind", ["zero head", "NaN"])
def test_a_trial_of_dead_weights_is_not_kept(kind: str) -> None:
    recipes._OUTCOMES.clear()
    scored(uninformative("gemma2", kind, torch.float32, {"final_logit_softcapping": 5.0, "head_dim": 8}))
    assert not recipes._OUTCOMES
    check(build("gemma2", seed=2, final_logit_softcapping=5.0, head_dim=8), "packed")
    assert recipes._OUTCOMES


def test_a_recipe_that_is_wrong_for_a_checkpoint_is_found_out_on_its_own_pairs() -> None:
    model = build("gemma2", final_logit_softcapping=2.0, head_dim=8)
    longest = max(len(pair.ids) for pair in PAIRS) - 1
    recipes._OUTCOMES.clear()
    right = recipes.find_recipe(model, CPU, longest)
    (key,) = recipes._OUTCOMES
    assert right is not None and not right.plain_head
    recipes._OUTCOMES[key] = recipes.TrialResult(Recipe(narrow_last=True, plain_head=True), None, True)
    try:
        check(model, "padded")
    finally:
        recipes._OUTCOMES.clear()


class BatchesDiffer(LlamaForCausalLM):
    """What it says of a text depends on how many others are read at the same time."""

    _is_stateful = True  # so that it is not packed

    def forward(self, input_ids: torch.Tensor, **given: Any) -> Any:  # type: ignore[override]
        result = super().forward(input_ids, **given)
        result.logits = result.logits * (1.2 if len(input_ids) > 1 else 1.0)
        return result


def test_a_model_that_neither_path_scores_right_has_failed_with_its_cause() -> None:
    torch.manual_seed(0)
    model = BatchesDiffer(LlamaConfig(**SIZES)).eval()
    words = r"BatchesDiffer is not scored, because by the padded path a pair differs by \d\.\d+ nats per token from what it scores"
    with pytest.raises(EngineError, match=words):
        scored(model)


@pytest.mark.parametrize("name", ["bert", "electra", "roberta"])
def test_attention_in_both_directions_has_no_log_probability(name: str) -> None:
    with pytest.raises(EngineError, match="attends to tokens in both directions"):
        scored(build(name))


def test_what_the_probe_sees_does_not_depend_on_the_weights() -> None:
    ids = torch.arange(2, 2 + WINDOW + 9)[None]
    for model in (build("phimoe", **MASKED["phimoe"]), uninformative("phimoe", "NaN", torch.float32, MASKED["phimoe"])):
        with torch.no_grad():
            assert probe(model, ids, 2).problem == "its mask is not the one that its attention is told of"
            assert probe(model, ids[:, : WINDOW - 1], 2).problem is None
    assert probe(build("llama"), ids, 3).problem == "3 layers call attention 2 times"


def test_limits_are_every_length_in_the_configuration() -> None:
    assert limits(build("mistral", sliding_window=WINDOW)) == [WINDOW, 512]
    assert {WINDOW, 512} <= set(limits(build("llama4_text", **MASKED["llama4_text"])))


def test_adapters_that_look_at_neighbours_are_not_packed() -> None:
    from peft import LoraConfig, get_peft_model

    def adapted(**changes: Any) -> Any:
        return get_peft_model(tiny.llama(), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], **changes))

    assert obstacle(adapted()) is None
    assert "may act on a token by what stands beside it" in str(obstacle(adapted(alora_invocation_tokens=[5, 6])))


def test_the_sample_has_the_extremes_and_what_lies_beyond_each_limit() -> None:
    plan = PackPlan(PAIRS)
    packs = plan.packs(tokens=200, rows=2**62)
    assert len(packs) > 2
    chosen = sample(PAIRS, packs, [WINDOW, 40, 10_000])
    lengths = [len(pair.ids) for pair in PAIRS]
    fullest = max(packs, key=lambda pack: len(pack.ids))
    assert len(set(chosen)) == len(chosen) >= N_DRAWN + 3
    assert {lengths.index(max(lengths)), int(fullest.pair[-1])} <= set(chosen)
    for limit in (WINDOW, 40):
        shortest = min(n for n in lengths if n - 1 > limit)
        assert shortest in {lengths[index] for index in chosen}
    assert sample(PAIRS, packs, [WINDOW]) == sample(PAIRS, packs, [WINDOW])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_bound_is_the_rounding_of_this_model_in_its_dtype(dtype: torch.dtype) -> None:
    model = build("llama", dtype)
    alone = truth(model)
    measured = rounding(model, PAIRS, alone, seeds=2)
    eps = torch.finfo(dtype).eps
    assert 0.01 * eps < measured < 50 * eps
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    proof = prove(model, PAIRS, list(range(8)), alone * N_TOKENS, path="packed")
    assert proof.holds and proof.n_pairs == 8
    wrong = alone * N_TOKENS
    wrong[3] += 200 * measured * N_TOKENS[3] + 1e-4
    assert not prove(model, PAIRS, list(range(8)), wrong, path="packed").holds
    wrong[3] = np.nan
    assert prove(model, PAIRS, [3], wrong, path="packed").largest == np.inf
