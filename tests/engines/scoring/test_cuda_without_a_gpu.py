"""What the engine asks of a GPU, seen without one: the same calls on torch's `meta` device, whose tensors have no values.

Whatever needs a value on the host raises there, and what a GPU's host would wait for in silence is refused by Watch. Shapes
are those of real models and packs, since nothing is computed. (Fake tensors on "cuda" would be closer, but a build of
torch without CUDA refuses them most operations.)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, LlamaForCausalLM

from harness.core.component import SilentProgress
from harness.core.tokens import TokenPair
from harness.engines.scoring.packed_forward import PackedModel, Recipe
from harness.engines.scoring.packs import Pack, PackPlan
from harness.engines.scoring.padded_logprob import _score_batch
from harness.engines.scoring.score import PACK_TOKENS, score
from harness.engines.scoring.score_pack import CHUNK_LOGITS
from harness.engines.scoring.score_pack import score_pack as entries_of

GPU = torch.device("meta")
BIG = 128_256
"""A vocabulary of today."""
NAMES = ("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3", "gpt_neox", "olmo", "olmo2", "phi")


class WaitingError(AssertionError):
    """A GPU's host would wait here, or a GPU would be given tensors of two devices."""


class Watch(TorchDispatchMode):
    """Refuses every operation that would make the host wait, and keeps how large results are."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0
        """Elements of one result."""
        self.most = 0
        """Bytes of results that were alive at a time."""
        self.uploads = 0
        self._alive: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        result = func(*args, **kwargs)
        for tensor in (value for value in tree_leaves(result) if isinstance(value, torch.Tensor)):
            if tensor.device == GPU:
                self._keep(tensor)
            devices = {tensor.device.type, *(value.device.type for value in given)}
            if len(devices) > 1:
                if not self._goes_over(func, args, kwargs, given):
                    raise WaitingError(f"{func} with tensors on {' and '.join(sorted(devices))}")
                self.uploads += 1
        return result

    @staticmethod
    def _goes_over(func: Any, args: Any, kwargs: Any, given: list[torch.Tensor]) -> bool:
        """A copy to the GPU for which the host does not wait."""
        if func is torch.ops.aten.copy_.default:
            return len(args) > 2 and bool(args[2]) and args[1].device.type == "cpu"
        copied = func is torch.ops.aten._to_copy.default and bool(kwargs.get("non_blocking"))
        return copied and given[0].device.type == "cpu"

    def _keep(self, tensor: torch.Tensor) -> None:
        self.largest = max(self.largest, tensor.numel())
        storage = tensor.untyped_storage()
        if (reference := StorageWeakRef(storage)) not in self._alive:
            self._alive = {key: size for key, size in self._alive.items() if not key.expired()}
            self._alive[reference] = storage.nbytes()
            self.most = max(self.most, sum(self._alive.values()))


MAKERS = (torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor)


class Attended(NamedTuple):
    """One call of scaled_dot_product_attention. Shapes [B, heads, length, D]."""

    q: tuple[int, ...]
    k: tuple[int, ...]
    v: tuple[int, ...]
    mask: tuple[int, ...] | None
    causal: bool
    grouped: bool


class Calls(TorchFunctionMode):
    """Refuses tensors made on the GPU of values on the host, which Watch does not see. Keeps what fused attention is asked
    for, and answers as its kernel does: with one new tensor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.attention: list[Attended] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            result = func(*args, **kwargs)
            if func in MAKERS and result.device == GPU:
                raise WaitingError(f"{func.__name__} of values on the host")
            return result
        q, k, v = args
        mask = kwargs.get("attn_mask")
        shape = None if mask is None else tuple(mask.shape)
        self.attention.append(
            Attended(
                tuple(q.shape),
                tuple(k.shape),
                tuple(v.shape),
                shape,
                kwargs["is_causal"],
                kwargs.get("enable_gqa", False),
            )
        )
        assert q.shape[0] == k.shape[0]
        assert q.shape[1] % k.shape[1] == 0
        assert k.shape[:3] == v.shape[:3]
        assert mask is None or torch.broadcast_shapes(mask.shape, (*q.shape[:3], k.shape[2])) == (
            *q.shape[:3],
            k.shape[2],
        )
        assert not {q.dtype, k.dtype, v.dtype, q.dtype if mask is None or mask.dtype == torch.bool else mask.dtype} - {
            q.dtype
        }
        return q.new_empty(*q.shape[:3], v.shape[-1])


class Seen(NamedTuple):
    """What one pack did."""

    watch: Watch
    attention: list[Attended]
    logprob: torch.Tensor
    greedy: torch.Tensor | None


def score_pack(model: Any, pack: Pack, *, greedy: bool = False, recipe: Recipe | None = None) -> Seen:
    """A pack scored as on a GPU, watched from its start until its scores would be collected."""
    recipe = recipe or Recipe(narrow_last=True, plain_head=True)
    with torch.no_grad(), PackedModel(model, recipe).prepared() as packed, Calls() as calls, Watch() as watch:
        found = entries_of(packed, pack, GPU, greedy=greedy)
    return Seen(watch, calls.attention, *found)


def on_gpu(model: Any) -> Any:
    return model.to(GPU, torch.bfloat16)


def pairs_of(lengths: list[tuple[int, int, int]], vocabulary: int = 404) -> list[TokenPair]:
    """(beginning, context, response): pairs of the same beginning share it."""
    generator = np.random.default_rng(0)
    beginnings = [generator.integers(0, vocabulary, 4096) for _ in range(1 + max(first for first, _, _ in lengths))]
    return [
        TokenPair(
            id=str(index),
            ids=np.concatenate([beginnings[first][:context], generator.integers(0, vocabulary, response)]).astype(
                np.int32
            ),
            n_context=context,
            n_bytes=1,
            cluster=str(index),
        )
        for index, (first, context, response) in enumerate(lengths)
    ]


def one_pack(lengths: list[tuple[int, int, int]], vocabulary: int = 404) -> Pack:
    (pack,) = PackPlan(pairs_of(lengths, vocabulary)).packs(tokens=2**20, rows=2**62)
    return pack


SHARED = [(0, 60, n) for n in (1, 3, 9, 2)] + [(0, 30, 4), (1, 45, 1), (1, 40, 30), (2, 2, 1), (3, 70, 2), (4, 64, 5)]
"""Shared beginnings: branches of one read, padded groups, several of them; and longer than a window of 16."""


def test_the_pack_has_everything_that_attention_can_be_asked_for() -> None:
    pack = one_pack(SHARED)
    groups = (*pack.groups, *pack.row_groups)
    assert any(group.causal for group in groups)
    assert any(group.k_branch.any() for group in groups)
    assert any(not group.real.all() for group in groups)
    assert len(pack.groups) > 1
    assert len(pack.row_groups) > 1


@pytest.mark.parametrize(
    "wait",
    [
        lambda there, here: there.sum().item(),
        lambda there, here: there.tolist(),
        lambda there, here: bool((there > 0).all()),
        lambda there, here: there.cpu(),
        lambda there, here: there.to("cpu", non_blocking=True),
        lambda there, here: there.nonzero(),
        lambda there, here: there[there > 0],
        lambda there, here: there.unique(),
        lambda there, here: torch.equal(there, there),
        lambda there, here: here.to(GPU),
        lambda there, here: torch.tensor([1, 2], device=GPU),
        lambda there, here: there.new_tensor([1, 2]),
        lambda there, here: there.copy_(here),
        lambda there, here: there[here.long()],
        lambda there, here: there + here,
        lambda there, here: here.copy_(there),
    ],
)
def test_the_watch_refuses_whatever_would_wait(wait: Callable[[torch.Tensor, torch.Tensor], Any]) -> None:
    there, here = torch.zeros(5, device=GPU), torch.zeros(5)
    with Calls(), Watch(), pytest.raises((WaitingError, RuntimeError, NotImplementedError)):
        wait(there, here)


def test_the_watch_lets_pass_what_does_not_wait() -> None:
    with Watch() as watch:
        there = torch.arange(5).to(GPU, non_blocking=True)
        assert (there * 2)[there].shape == (5,)
        there.copy_(torch.arange(5), non_blocking=True)
    assert watch.largest == 5
    assert watch.most == 3 * 5 * 8


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("greedy", [False, True])
def test_nothing_waits_from_a_packs_start_until_its_scores_are_collected(name: str, greedy: bool) -> None:
    model, pack = on_gpu(tiny.family(name)), one_pack(SHARED)
    for narrow, plain, lean in itertools.product((True, False), repeat=3):
        recipe = Recipe(narrow_last=narrow, plain_head=plain, lean=lean)
        seen = score_pack(model, pack, greedy=greedy, recipe=recipe)
        assert seen.logprob.shape == pack.target.shape
        assert seen.logprob.dtype == torch.float32
        assert (seen.greedy is not None) == greedy


@pytest.mark.parametrize("name", [name for name in NAMES if name != "gemma2"])
def test_attention_is_fused_and_asks_for_no_more_keys_than_it_must(name: str) -> None:
    model, pack = on_gpu(tiny.family(name)), one_pack(SHARED)
    config = model.config
    heads = config.num_attention_heads
    stored = getattr(config, "num_key_value_heads", None) or heads
    calls = score_pack(model, pack).attention
    assert len(calls) == (config.num_hidden_layers - 1) * len(pack.groups) + len(pack.row_groups)
    windowed = getattr(config, "sliding_window", None) is not None
    assert windowed or any(call.causal for call in calls)
    for call in calls:
        assert call.q[1] == heads
        if call.causal:
            # A flash kernel's own causal mask is for as many rows as keys; it reads shared keys where they are.
            assert call.q[2] == call.k[2]
            assert call.mask is None
            assert call.k[1] == stored
            assert call.grouped == (stored < heads)
        elif call.mask is not None:
            assert call.mask == (call.q[0], 1, call.q[2], call.k[2])
            # Not every fused kernel that takes a mask takes shared keys.
            assert call.k[1] == heads
            assert not call.grouped


def test_what_groups_need_goes_over_at_once() -> None:
    model = on_gpu(tiny.llama())
    few, many = one_pack([(0, 60, 5), (0, 60, 6)]), one_pack(SHARED)
    assert len(many.groups) + len(many.row_groups) > len(few.groups) + len(few.row_groups)
    assert score_pack(model, many).watch.uploads == score_pack(model, few).watch.uploads < 10


def test_a_window_is_masked_where_it_is_shorter_than_what_is_read() -> None:
    pack = one_pack(SHARED)
    calls = score_pack(on_gpu(tiny.family("mistral")), pack).attention
    assert all(call.mask is not None for call in calls if call.k[2] > 16)
    assert all(call.causal for call in calls if call.k[2] <= 16 and call.q[2] == call.k[2])


def test_logits_are_held_a_chunk_at_a_time() -> None:
    pack = one_pack([(0, 3000, 3000), (1, 500, 2000)], BIG)
    assert len(pack.rows) * BIG > 2 * CHUNK_LOGITS["cuda"]
    model = on_gpu(tiny.llama(vocab_size=BIG, max_position_embeddings=8192))
    for greedy in (False, True):
        seen = score_pack(model, pack, greedy=greedy)
        assert CHUNK_LOGITS["cuda"] / 2 < seen.watch.largest <= CHUNK_LOGITS["cuda"]


def test_a_full_pack_of_a_3b_model_fits_beside_its_weights() -> None:
    """On a card of 80 GB. Counted is what the operations return; what a kernel takes for itself is not."""
    config = LlamaConfig(
        vocab_size=BIG,
        hidden_size=3072,
        intermediate_size=8192,
        num_hidden_layers=28,
        num_attention_heads=24,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    with GPU:
        model = on_gpu(LlamaForCausalLM(config).eval())
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    pack = one_pack([(index, 700, 300) for index in range(PACK_TOKENS["cuda"] // 1000)], BIG)
    assert PACK_TOKENS["cuda"] * 0.95 < len(pack.ids) <= PACK_TOKENS["cuda"]
    assert weights + score_pack(model, pack, greedy=True).watch.most < 20e9


@pytest.mark.parametrize("name", ["bloom", "mpt", "mamba"])
@pytest.mark.parametrize("greedy", [False, True])
def test_nothing_waits_in_a_padded_batch(name: str, greedy: bool) -> None:
    """Of a model that is not packed. The others' own masks are made with a look at a value in transformers."""
    model, pairs = on_gpu(tiny.family(name)), pairs_of(SHARED)
    with torch.no_grad(), Watch():
        entries = _score_batch(model, pairs, range(len(pairs)), GPU, greedy)
    assert entries.logprob.shape == entries.pair.shape == (sum(pair.n_tokens for pair in pairs),)


def test_attention_that_plans_for_each_shape_is_off_while_pairs_are_scored() -> None:
    model, pairs = tiny.llama(), pairs_of(SHARED)
    seen = []
    model.register_forward_hook(lambda *_: seen.append(torch.backends.cuda.cudnn_sdp_enabled()))
    before = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        torch.backends.cuda.enable_cudnn_sdp(True)
        score(model, PackPlan(pairs), progress=SilentProgress())
        assert seen
        assert not any(seen)
        assert torch.backends.cuda.cudnn_sdp_enabled()
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


class Head(torch.nn.Linear):
    """A head that is not the plain class: its logits are made in chunks on a CPU too, as on a GPU."""


def test_chunks_of_logits_give_what_the_whole_gives() -> None:
    cpu = torch.device("cpu")
    model = tiny.llama(vocab_size=BIG, max_position_embeddings=1024)
    pack = one_pack([(0, 60, 60), (1, 5, 40), (0, 60, 3)], BIG)
    assert len(pack.rows) * BIG > 2 * CHUNK_LOGITS["cpu"]
    recipe = Recipe(narrow_last=True, plain_head=True)
    with torch.no_grad():
        with PackedModel(model, recipe).prepared() as packed:
            whole, likeliest = entries_of(packed, pack, cpu, greedy=True, kind="cuda")
        model.lm_head.__class__ = Head
        with PackedModel(model, recipe).prepared() as packed:
            parts, hits = entries_of(packed, pack, cpu, greedy=True, kind="cpu")
    assert likeliest is not None
    assert hits is not None
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)
    assert torch.equal(hits, likeliest)
