"""Layers computed by our own code: the same values as stock code, only where stock code is known, and nothing left behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tiny
import torch
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from harness.core.component import SilentProgress
from harness.core.tokens import TokenPair
from harness.engines.scoring.lean_layer import BLOCK, Buffers, is_known, lean_layers
from harness.engines.scoring.packed_forward import PackedModel, Recipe
from harness.engines.scoring.packs import PackPlan
from harness.engines.scoring.padded_logprob import score_padded
from harness.engines.scoring.recipe import find_recipe
from harness.engines.scoring.score import score

KNOWN = ("llama", "llama tied", "mistral", "qwen2", "qwen2 tied", "qwen3")
CPU = torch.device("cpu")


def pairs_of(lengths: Sequence[tuple[int, int]], shared: int = 0) -> list[TokenPair]:
    """Pairs of (context, response) lengths with random ids, the first `shared` the same."""
    rng = np.random.default_rng(0)
    beginning = rng.integers(0, 404, shared)
    pairs = []
    for index, (context, response) in enumerate(lengths):
        ids = rng.integers(0, 404, context + response)
        ids[: min(shared, context)] = beginning[: min(shared, context)]
        pairs.append(
            TokenPair(id=str(index), ids=ids.astype(np.int32), n_context=context, n_bytes=1, cluster=str(index))
        )
    return pairs


MIXED = pairs_of([(1, 1), (5, 3), (40, 30), (3, 1), (60, 2), (50, 40), (41, 1)], shared=33)


def per_token(values: npt.NDArray[np.float64], pairs: Sequence[TokenPair]) -> npt.NDArray[np.float64]:
    return values / np.array([pair.n_tokens for pair in pairs])


def scored(model: Any, pairs: Sequence[TokenPair]) -> npt.NDArray[np.float64]:
    return per_token(score(model, PackPlan(pairs), progress=SilentProgress()).logprob, pairs)


def plain(model: Any, pairs: Sequence[TokenPair]) -> npt.NDArray[np.float64]:
    return per_token(score_padded(model, pairs, progress=SilentProgress()).logprob, pairs)


def is_lean(model: Any) -> bool:
    recipe = find_recipe(model, CPU)
    return recipe is not None and recipe.lean


@pytest.mark.parametrize("name", KNOWN)
def test_known_kinds_are_computed_here_and_equal_the_plain_path(name: str) -> None:
    model = tiny.family(name)
    assert is_lean(model)
    assert np.abs(scored(model, MIXED) - plain(model, MIXED)).max() < 1e-5


@pytest.mark.parametrize("name", ["gemma", "gemma2", "olmo2", "phi3", "gpt_neox", "mixtral"])
def test_other_kinds_run_their_own_code(name: str) -> None:
    assert not is_lean(tiny.family(name))


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_they_are_no_further_from_the_truth_than_stock_code(name: str, dtype: torch.dtype) -> None:
    pairs = pairs_of([(20, 1)] * 400)
    truth = plain(tiny.family(name).to(dtype).float(), pairs)
    model = tiny.family(name).to(dtype)
    assert is_lean(model)
    ours, stock = (float(np.abs(values - truth).mean()) for values in (scored(model, pairs), plain(model, pairs)))
    assert 0 < ours < 1.1 * stock


def test_an_adapter_in_float32_over_a_halved_base_is_called() -> None:
    model = tiny.lora(tiny.llama().bfloat16(), target_modules=["q_proj", "down_proj"])
    assert {str(p.dtype) for n, p in model.named_parameters() if "lora_" in n} == {"torch.float32"}
    assert is_lean(model)
    assert np.abs(scored(model, MIXED) - plain(model, MIXED)).mean() < 0.05


def test_biases_everywhere_change_nothing() -> None:
    model = tiny.llama(attention_bias=True, mlp_bias=True)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear) and module.bias is not None:
                module.bias.normal_()
    assert is_lean(model)
    assert np.abs(scored(model, MIXED) - plain(model, MIXED)).max() < 1e-5


@pytest.mark.parametrize("threads", [1, 2])
def test_rows_of_several_blocks_are_all_computed(threads: int) -> None:
    model = tiny.llama(hidden_size=128, intermediate_size=256)
    pairs = pairs_of([(700, 100), (600, 200), (10, 5)])
    (pack,) = PackPlan(pairs).packs(tokens=4096, rows=4096)
    assert len(pack.ids) * model.config.hidden_size > BLOCK
    assert is_lean(model)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = scored(model, pairs)
    finally:
        torch.set_num_threads(before)
    assert np.abs(found - plain(model, pairs)).max() < 1e-5


@pytest.mark.parametrize("changes", [{"head_dim": 12}, {"num_key_value_heads": 1}, {"rms_norm_eps": 0.1}])
def test_sizes_of_the_configuration_are_respected(changes: dict[str, Any]) -> None:
    model = tiny.llama(**changes)
    assert is_lean(model)
    assert np.abs(scored(model, MIXED) - plain(model, MIXED)).max() < 1e-5


def test_scaled_rotary_positions_are_the_models_own() -> None:
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 10_000.0}
    model = tiny.llama(rope_parameters=scaling)
    assert is_lean(model)
    assert np.abs(scored(model, MIXED) - plain(model, MIXED)).max() < 1e-5


@pytest.mark.parametrize("target", ["q_proj", "o_proj", "down_proj"])
def test_an_adapter_is_called_wherever_it_sits(target: str) -> None:
    model = tiny.lora(tiny.llama(), target_modules=[target])
    base = plain(tiny.llama(), MIXED)
    assert is_lean(model)
    assert np.abs(scored(model, MIXED) - plain(model, MIXED)).max() < 1e-5
    assert np.abs(scored(model, MIXED) - base).max() > 1e-3


@pytest.mark.parametrize("path", ["self_attn", "mlp", "mlp.act_fn", "input_layernorm"])
def test_a_layer_with_a_hook_inside_runs_its_own_code(path: str) -> None:
    model = tiny.llama()
    seen: list[int] = []
    first = model.model.layers[0]
    first.get_submodule(path).register_forward_hook(lambda *_: seen.append(1))
    assert not is_known(first)
    assert is_known(model.model.layers[1])
    scored(model, MIXED)
    assert seen


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_what_a_hook_on_a_layer_keeps_is_not_written_over(register: str) -> None:
    model = tiny.llama(num_hidden_layers=3)
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def keep(_module: Any, args: Any, out: Any = None) -> None:
        kept.extend((value, value.clone()) for value in (*args, out) if isinstance(value, torch.Tensor))

    for layer in model.model.layers:
        getattr(layer, register)(keep)
    scored(model, MIXED)
    assert len(kept) >= 3
    assert all(torch.equal(value, copy) for value, copy in kept)


def test_a_hook_on_a_projection_is_run() -> None:
    model = tiny.llama()
    model.model.layers[0].self_attn.o_proj.register_forward_hook(lambda _module, _args, out: out * 2)
    assert not is_known(model.model.layers[0])
    assert is_known(model.model.layers[1])
    assert np.abs(scored(model, MIXED) - plain(model, MIXED)).max() < 1e-5
    assert np.abs(scored(model, MIXED) - plain(tiny.llama(), MIXED)).max() > 1e-3


class OwnLayer(LlamaDecoderLayer):
    """Somebody's variation, whose code is not known."""


def test_subclasses_and_other_types_are_not_known() -> None:
    model = tiny.llama()
    assert is_known(model.model.layers[0])
    assert not is_known(OwnLayer(model.config, 0))
    assert not is_known(tiny.llama().double().model.layers[0])
    mixed = tiny.llama().bfloat16()
    assert is_known(mixed.model.layers[0])
    mixed.model.layers[0].mlp.float()
    assert not is_known(mixed.model.layers[0])
    assert not is_known(tiny.llama(hidden_act="gelu").model.layers[0])


def test_a_layer_that_only_looks_known_is_found_out_by_trial() -> None:
    class SiLU(torch.nn.Module):
        """Not what its name says."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(x)

    model = tiny.llama(num_hidden_layers=3)
    for layer in model.model.layers:
        layer.mlp.act_fn = SiLU()
        assert is_known(layer)
    recipe = find_recipe(model, CPU)
    assert recipe is not None
    assert recipe.narrow_last
    assert not recipe.lean
    assert np.abs(scored(model, MIXED) - plain(model, MIXED)).max() < 1e-5


def test_layers_are_as_before_afterwards_even_after_an_error() -> None:
    model = tiny.llama()

    def touched() -> list[Any]:
        return [layer for layer in model.model.layers if "forward" in layer.__dict__]

    with pytest.raises(KeyError), lean_layers(model, Buffers()):
        assert len(touched()) == 2
        raise KeyError
    assert not touched()


def test_what_was_given_to_a_layer_is_not_written_to() -> None:
    model = tiny.llama()
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []
    model.model.embed_tokens.register_forward_hook(lambda _module, _args, out: kept.append((out, out.clone())))
    (pack,) = PackPlan(MIXED).packs(tokens=4096, rows=4096)
    recipe = Recipe(narrow_last=True, plain_head=True, lean=True)
    with torch.no_grad(), PackedModel(model, recipe).prepared() as packed:
        packed(pack, CPU)
    ((given, copy),) = kept
    assert torch.equal(given, copy)


def test_a_layer_whose_attention_was_put_inside_another_module_is_left_to_its_own_code() -> None:
    model = tiny.llama()
    layer: Any = model.model.layers[0]

    class Around(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *args: Any, **given: Any) -> Any:
            return self.inner(*args, **given)

    assert is_known(layer)
    layer.self_attn = Around(layer.self_attn)
    assert not is_known(layer)
