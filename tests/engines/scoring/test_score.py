"""Scoring against an independent slow reference, and what it must leave untouched."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.component import SilentProgress
from harness.core.errors import EngineError
from harness.core.tokens import TokenPair
from harness.engines.scoring.packs import PackPlan
from harness.engines.scoring.padded_logprob import score_padded
from harness.engines.scoring.recipe import find_recipe
from harness.engines.scoring.score import score

VOCABULARY = 404


def pair(ids: Sequence[int], n_context: int, name: str = "x") -> TokenPair:
    return TokenPair(id=name, ids=np.array(ids, dtype=np.int32), n_context=n_context, n_bytes=1, cluster=f"item {name}")


def random_pairs(lengths: Sequence[tuple[int, int]], seed: int = 0) -> list[TokenPair]:
    """Pairs of (context, response) lengths with random ids."""
    generator = np.random.default_rng(seed)
    return [
        pair(generator.integers(0, VOCABULARY, context + response).tolist(), context, str(index))
        for index, (context, response) in enumerate(lengths)
    ]


def slow(model: Any, pairs: Sequence[TokenPair]) -> npt.NDArray[np.float64]:
    """One pair at a time, all positions, log-softmax in float64: nothing shared with the engine."""
    totals = []
    with torch.no_grad():
        for item in pairs:
            ids = torch.tensor(item.ids[None, :-1].astype(np.int64))
            logprob = torch.log_softmax(model(ids).logits[0].double(), dim=-1)
            rows = range(item.n_context - 1, len(item.ids) - 1)
            totals.append(sum(float(logprob[row, int(item.ids[row + 1])]) for row in rows))
    return np.array(totals)


def per_token(values: npt.NDArray[np.float64], pairs: Sequence[TokenPair]) -> npt.NDArray[np.float64]:
    return values / np.array([item.n_tokens for item in pairs])


def run(model: Any, pairs: Sequence[TokenPair], batch_tokens: int | None = None) -> npt.NDArray[np.float64]:
    return score(model, PackPlan(pairs), batch_tokens=batch_tokens, progress=SilentProgress()).logprob


def padded(model: Any, pairs: Sequence[TokenPair], batch_tokens: int | None = None) -> npt.NDArray[np.float64]:
    return score_padded(model, pairs, batch_tokens=batch_tokens, progress=SilentProgress()).logprob


NOT_PACKED = {"bloom", "mpt", "mamba"}
"""Families whose attention transformers does not let anybody replace: they take the padded path."""


MIXED = random_pairs([(1, 1), (5, 3), (20, 30), (3, 1), (40, 2), (1, 40), (17, 17), (2, 9)])


@pytest.mark.parametrize("name", tiny.FAMILIES)
@pytest.mark.parametrize("batch_tokens", [1, 100, None])
def test_every_architecture_equals_the_slow_reference_within_1e5_per_token(name: str, batch_tokens: int | None) -> None:
    model = tiny.family(name)
    truth = slow(model, MIXED)
    assert np.abs(per_token(padded(model, MIXED, batch_tokens) - truth, MIXED)).max() < 1e-5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if name in NOT_PACKED else "error")
        assert np.abs(per_token(run(model, MIXED, batch_tokens) - truth, MIXED)).max() < 1e-5
    assert (find_recipe(model, torch.device("cpu")) is None) == (name in NOT_PACKED)


def test_a_model_that_cannot_be_packed_is_scored_with_one_warning_that_says_why() -> None:
    model = tiny.family("bloom", hidden_size=48)
    with pytest.warns(UserWarning, match="BloomForCausalLM is scored by the padded path, which is slower: .+"):
        first = run(model, MIXED)
    assert (run(model, MIXED) == first).all()


def test_random_models_differ_enough_for_agreement_to_mean_something() -> None:
    first, second = slow(tiny.llama(0), MIXED), slow(tiny.llama(1), MIXED)
    assert np.abs(per_token(first - second, MIXED)).min() > 0.01


def test_bfloat16_is_closer_to_the_float32_truth_than_summing_in_bfloat16() -> None:
    pairs = random_pairs([(10, length) for length in (50, 100, 200, 400)])
    model = tiny.llama().bfloat16()
    truth = slow(tiny.llama().bfloat16().float(), pairs)
    ours = np.abs(run(model, pairs) - truth)
    theirs = []
    with torch.no_grad():
        for item, target in zip(pairs, truth, strict=True):
            ids = torch.tensor(item.ids[None].astype(np.int64))
            logprob = torch.log_softmax(model(ids[:, :-1]).logits, dim=-1)[0, item.n_context - 1 :]
            chosen = logprob.gather(1, ids[0, item.n_context :, None])
            theirs.append(abs(float(chosen.sum()) - target))
    assert ours.sum() < np.sum(theirs) / 5
    assert per_token(ours, pairs).max() < 0.02


def test_a_float64_model_is_scored_in_float64() -> None:
    model = tiny.llama().double()
    assert np.abs(run(model, MIXED) - slow(model, MIXED)).max() < 1e-11


SMALL = tiny.llama(num_hidden_layers=1)
IDS = st.integers(0, VOCABULARY - 1)


@st.composite
def pair_sets(draw: st.DrawFn) -> list[TokenPair]:
    """Small sets with one-token contexts and responses, duplicates, and pairs that are prefixes of others."""
    drawn = draw(
        st.lists(st.tuples(st.lists(IDS, min_size=2, max_size=12), st.integers(1, 11)), min_size=1, max_size=5)
    )
    found = [(ids, min(cut, len(ids) - 1)) for ids, cut in drawn]
    for ids, cut in list(found):
        if draw(st.booleans()):
            end = draw(st.integers(2, len(ids)))
            found.append((ids[:end], min(cut, end - 1)))
    return [pair(ids, cut, str(index)) for index, (ids, cut) in enumerate(draw(st.permutations(found)))]


@settings(max_examples=60, deadline=None)
@given(pairs=pair_sets(), batch_tokens=st.sampled_from([1, 5, 16, 40, None]))
def test_the_batching_never_shows_in_a_value(pairs: list[TokenPair], batch_tokens: int | None) -> None:
    values = run(SMALL, pairs, batch_tokens)
    assert np.abs(per_token(values - slow(SMALL, pairs), pairs)).max() < 1e-5
    assert np.abs(per_token(run(SMALL, pairs[::-1], batch_tokens)[::-1] - values, pairs)).max() < 1e-5


def test_the_same_call_gives_the_same_bits() -> None:
    assert run(SMALL, MIXED, 64).tolist() == run(SMALL, MIXED, 64).tolist()


@pytest.mark.parametrize("context", [1, 2])
def test_a_single_pair_whose_every_position_is_scored_is_right(context: int) -> None:
    pairs = random_pairs([(context, 12)])
    assert run(SMALL, pairs) == pytest.approx(slow(SMALL, pairs), abs=1e-5)


def test_same_text_split_at_another_place_has_its_own_value() -> None:
    """lm-eval's logits cache confuses these two."""
    ids = random_pairs([(3, 5)])[0].ids.tolist()
    pairs = [pair(ids, 3), pair(ids, 6), pair(ids, 1)]
    values = run(SMALL, pairs)
    assert values == pytest.approx(slow(SMALL, pairs), abs=1e-4)
    assert values[2] < values[0] < values[1]


def test_no_pairs_give_no_values() -> None:
    assert run(SMALL, []).shape == (0,)


class Counting(torch.nn.Linear):
    """A head that counts the rows it is applied to."""

    rows = 0

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        self.rows += hidden.shape[0] * hidden.shape[1]
        return super().forward(hidden)


def with_counting_head() -> Any:
    model = tiny.llama()
    head = Counting(model.lm_head.in_features, model.lm_head.out_features, bias=False)
    head.weight = model.lm_head.weight
    model.lm_head = head
    return model


def test_the_head_is_applied_to_response_rows_only() -> None:
    model = with_counting_head()
    padded(model, MIXED, 64)
    assert model.lm_head.rows == sum(item.n_tokens for item in MIXED)


def test_rows_that_predict_for_several_pairs_are_computed_once() -> None:
    question = list(range(20, 60))
    choices = [pair([*question, choice, 7], 40, str(choice)) for choice in (100, 101, 102, 103)]
    model = with_counting_head()
    run(model, choices)  # the first run also tries how such a model can be packed
    model.lm_head.rows = 0
    values = run(model, choices)
    # One row for what follows the question, and one for each choice; in the proof two for every pair, twice.
    assert model.lm_head.rows == (1 + 4) + 2 * (4 * 2)
    assert values == pytest.approx(slow(model, choices), abs=1e-4)


@pytest.mark.parametrize("name", ["llama", "qwen2", "mistral", "gemma2", "gpt_neox", "olmo2", "phi"])
def test_shared_beginnings_change_nothing(name: str) -> None:
    """Adversarial prefixes: a preamble of several pairs, a pair inside another, duplicates, one-token responses."""
    generator = np.random.default_rng(3)
    preamble = generator.integers(0, 300, 40).tolist()
    second = [*preamble, *generator.integers(0, 300, 25).tolist()]
    pairs = [pair(preamble, n, f"inside {n}") for n in (1, 20, 39)]
    pairs += [pair([*preamble, *generator.integers(0, 300, n).tolist()], 40, f"tail {n}") for n in (1, 2, 30)]
    pairs += [pair([*second, *generator.integers(0, 300, n).tolist()], 50, f"second {n}") for n in (1, 3, 18)]
    pairs += [pair(second, 64, "same"), pair(second, 64, "same again"), pair(second, 3, "same, split elsewhere")]
    model = tiny.family(name)
    truth = slow(model, pairs)
    for order in (pairs, pairs[::-1]):
        values = run(model, order)
        assert np.abs(per_token(values - (truth if order is pairs else truth[::-1]), order)).max() < 1e-5
    packed = PackPlan(pairs).packs(tokens=10_000, rows=10_000)
    assert sum(len(pack.ids) for pack in packed) < 0.4 * sum(len(item.ids) for item in pairs)


def test_greedy_flags_say_whether_every_token_was_the_likeliest() -> None:
    model = tiny.llama()
    start = [5, 17, 301]
    grown = model.generate(
        torch.tensor([start]), attention_mask=torch.ones(1, 3), max_new_tokens=6, do_sample=False, pad_token_id=1
    )[0].tolist()
    broken = [*grown[:-1], (grown[-1] + 1) % VOCABULARY]
    pairs = [pair(grown, 3, "greedy"), pair(broken, 3, "last token differs"), pair(broken[:-1], 3, "greedy, shorter")]
    expected = [True, False, True]
    for scores in (
        score(model, PackPlan(pairs), progress=SilentProgress(), greedy=True),
        score_padded(model, pairs, progress=SilentProgress(), greedy=True),
    ):
        assert scores.greedy.tolist() == expected


class Recorder(SilentProgress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.pairs = self.tokens = 0

    def advance(self, *, items: int, tokens: int) -> None:
        self.pairs += items
        self.tokens += tokens


@pytest.mark.parametrize("batch_tokens", [1, 64, None])
def test_progress_adds_up_to_all_pairs_and_all_tokens_read(batch_tokens: int | None) -> None:
    recorder = Recorder()
    score(SMALL, PackPlan(MIXED), batch_tokens=batch_tokens, progress=recorder)
    assert (recorder.pairs, recorder.tokens) == (len(MIXED), sum(len(item.ids) - 1 for item in MIXED))


# What is broken in a model comes out as a value, not as an exception.


def test_a_nan_embedding_spoils_exactly_the_pairs_that_read_its_token() -> None:
    model = tiny.llama()
    with torch.no_grad():
        model.get_input_embeddings().weight[7] = float("nan")
    pairs = [pair([3, 4, 5, 6], 2), pair([3, 7, 5, 6, 9, 10], 3), pair([3, 4, 5, 7], 2), pair([7, 4], 1)]
    values = run(model, pairs)
    assert np.isfinite(values).tolist() == [True, False, True, False]
    assert values[[0, 2]] == pytest.approx(slow(model, [pairs[0], pairs[2]]), abs=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_broken_head_gives_values_that_are_not_finite(bad: float) -> None:
    model = tiny.llama()
    with torch.no_grad():
        model.lm_head.weight.fill_(bad)
    assert not np.isfinite(run(model, MIXED)).any()


# Models of other shapes.


class Bare(torch.nn.Module):
    """A model that does not say where its head is."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner
        self.config = inner.config

    def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> Any:
        return self.inner(input_ids=input_ids, use_cache=use_cache)


class Headless(Bare):
    """Returns hidden states."""

    def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> Any:
        return self.inner.model(input_ids=input_ids, use_cache=use_cache)


class Cramped(Bare):
    """Runs out of memory when a batch has more than `room` positions."""

    def __init__(self, inner: Any, room: int) -> None:
        super().__init__(inner)
        self.room = room
        self.refused = 0

    def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> Any:
        if input_ids.numel() > self.room:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(input_ids, use_cache)


def test_a_model_that_hides_its_head_is_scored_at_full_width() -> None:
    assert padded(Bare(SMALL), MIXED) == pytest.approx(run(SMALL, MIXED), abs=1e-4)
    with pytest.warns(
        UserWarning, match="Bare is scored by the padded path, which is slower: it has no output embedding"
    ):
        assert run(Bare(SMALL), MIXED) == pytest.approx(run(SMALL, MIXED), abs=1e-4)


def test_a_model_without_logits_is_named() -> None:
    with pytest.raises(EngineError, match="Headless returns no logits"):
        padded(Headless(SMALL), MIXED)


def test_running_out_of_memory_makes_batches_smaller() -> None:
    model = Cramped(SMALL, room=60)
    assert padded(model, MIXED) == pytest.approx(run(SMALL, MIXED), abs=1e-4)
    assert 0 < model.refused < 10


def test_a_pair_that_does_not_fit_alone_is_named() -> None:
    with pytest.raises(EngineError, match=r"pair 2 \(50 tokens\) does not fit in the memory of cpu"):
        padded(Cramped(SMALL, room=45), MIXED)


def cramped(room: int) -> Any:
    """A model that runs out of memory when it reads more than `room` tokens at once."""
    model = tiny.llama()
    limit = 2**20

    def refuse(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs["input_ids"].numel() > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")

    model.register_forward_pre_hook(refuse, with_kwargs=True)
    run(model, MIXED[:1])  # how it is packed has been found out before memory gets short
    limit = room
    return model


def test_running_out_of_memory_makes_packs_smaller() -> None:
    recorder = Recorder()
    values = score(cramped(60), PackPlan(MIXED), progress=recorder).logprob
    assert values == pytest.approx(run(tiny.llama(), MIXED), abs=1e-4)
    assert recorder.pairs == len(MIXED)


def test_a_pair_that_does_not_fit_in_a_pack_of_its_own_is_named() -> None:
    with pytest.raises(EngineError, match=r"pair 2 \(49 tokens\) does not fit in the memory of cpu"):
        run(cramped(45), MIXED)


def test_a_lora_model_scores_as_its_merged_weights() -> None:
    for target in (["q_proj", "v_proj"], ["q_proj", "lm_head"]):
        model = tiny.lora(tiny.llama(), target_modules=target)
        values = run(model, MIXED)
        assert values == pytest.approx(slow(model, MIXED), abs=1e-3)
        merged = run(model.merge_and_unload(), MIXED)
        assert np.abs(per_token(values - merged, MIXED)).max() < 1e-5
        assert np.abs(values - run(tiny.llama(), MIXED)).min() > 1e-3


# What scoring must leave as it was.


def snapshot(model: Any) -> dict[str, Any]:
    """Everything about a model that scoring must not change."""
    return {
        "training": {name: module.training for name, module in model.named_modules()},
        "requires_grad": {name: value.requires_grad for name, value in model.named_parameters()},
        "grad": {name: None if v.grad is None else v.grad.clone().tolist() for name, v in model.named_parameters()},
        "weights": {name: value.clone().tolist() for name, value in model.state_dict().items()},
        "hooks": {
            name: (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            for name, module in model.named_modules()
        },
    }


def in_training() -> Any:
    """A model in the middle of training: dropout, mixed train/eval modules, frozen weights, gradients, a hook."""
    model = tiny.llama(attention_dropout=0.5)
    model.train()
    model.model.layers[0].eval()
    model.model.embed_tokens.requires_grad_(False)
    model.lm_head.register_forward_pre_hook(lambda _module, inputs: inputs)
    ids = torch.arange(12)[None]
    model(ids, labels=ids).loss.backward()
    return model


def random_states() -> tuple[Any, ...]:
    return (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist())


def test_training_flags_gradients_hooks_and_random_states_are_left_alone() -> None:
    model = in_training()
    before, states = snapshot(model), random_states()
    values = run(model, MIXED, 64)
    assert snapshot(model) == before
    assert random_states() == states
    assert torch.is_grad_enabled()
    assert values == pytest.approx(run(tiny.llama(), MIXED, 64), abs=0), "dropout must be off"


class Interrupting(SilentProgress):
    """Stops the run after the first batch."""

    def advance(self, *, items: int, tokens: int) -> None:
        raise KeyboardInterrupt


def stopped(_hidden: torch.Tensor) -> torch.Tensor:
    raise KeyboardInterrupt


def test_an_interruption_leaves_the_model_as_it_was() -> None:
    model = in_training()
    before, states = snapshot(model), random_states()
    with pytest.raises(KeyboardInterrupt):
        score(model, PackPlan(MIXED), batch_tokens=1, progress=Interrupting())
    model.model.layers[1].mlp.forward = stopped
    with pytest.raises(KeyboardInterrupt):
        run(model, MIXED)
    del model.model.layers[1].mlp.forward
    assert snapshot(model) == before
    assert random_states() == states


def test_an_error_in_the_model_leaves_it_as_it_was() -> None:
    model = tiny.family("gpt2").train()
    before, states = snapshot(model), random_states()
    with warnings.catch_warnings(), pytest.raises(IndexError):
        warnings.filterwarnings("ignore", message=".*padded path")
        run(model, [pair([1] * 1100, 2)])  # it has 1024 positions
    assert snapshot(model) == before
    assert random_states() == states


def test_an_outer_autocast_does_not_change_a_value() -> None:
    expected = run(SMALL, MIXED).tolist()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert run(SMALL, MIXED).tolist() == expected
        assert torch.is_autocast_enabled("cpu")


def test_outer_grad_modes_do_not_change_a_value() -> None:
    expected = run(SMALL, MIXED).tolist()
    with torch.no_grad():
        assert run(SMALL, MIXED).tolist() == expected
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        assert run(SMALL, MIXED).tolist() == expected


def test_a_training_loop_with_gradient_checkpointing_goes_on_after_scoring() -> None:
    model = tiny.llama()
    expected = run(model, MIXED).tolist()
    model.gradient_checkpointing_enable()
    model.train()
    assert run(model, MIXED).tolist() == expected
    assert model.training and model.model.gradient_checkpointing
    ids = torch.arange(12)[None]
    model(ids, labels=ids).loss.backward()
    assert all(value.grad is not None for value in model.parameters())


def test_a_model_compiled_in_place_is_run_as_written_and_keeps_its_graphs() -> None:
    graphs: list[Any] = []

    def backend(graph: Any, _inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    model = tiny.llama(num_hidden_layers=1)
    expected = run(model, MIXED, 64).tolist()
    model.compile(backend=backend)
    assert run(model, MIXED, 64).tolist() == expected
    assert not graphs
    with torch.no_grad():
        assert model(torch.arange(9)[None]).logits.shape == (1, 9, VOCABULARY)
    assert graphs
