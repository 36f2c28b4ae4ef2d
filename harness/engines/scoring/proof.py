"""The proof of a checkpoint's scores on its own pairs: some are scored one sequence at a time by the model's own code and compared.

The bound is not a constant but this model's own rounding error in this dtype, measured by scoring the same sequences again with random
noise in the last place of the outputs of every decoder layer and of every part of it that has weights.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from harness.core.component import SilentProgress
from harness.core.tokens import TokenPair
from harness.engines.scoring.packs import Pack
from harness.engines.scoring.padded_logprob import score_padded
from harness.engines.scoring.prefix_tree import common_prefix
from harness.engines.scoring.scores import Proof, ScoringPath
from harness.engines.scoring.structure import decoder_layers

N_DRAWN = 4
"""Pairs drawn with a seed, besides those that are always compared. The rounding is measured on them."""
FACTOR, HALF_FACTOR = 8.0, 4.0
"""Allowed difference over measured rounding, in float32 and in half precision. A float32 product accumulates several roundings, which
depend on the order of its sum; one in half precision is summed in float32 and rounded once at the end, as the noise does.
"""
FLOOR = 4 * float(np.finfo(np.float32).eps)
"""Lower limit of the bound, relative to 1 + |nats per token|: the rounding of the final log-softmax in float32."""
PROFILED = "proof"
"""Name of the range that a profile of scoring shows for it."""
SEEDS, MORE_SEEDS = 1, 8
"""Disturbed passes: of the drawn pairs, and of pairs that are beyond the first bound."""


@torch.profiler.record_function(PROFILED)
def prove(
    model: Any,
    pairs: Sequence[TokenPair],
    chosen: Sequence[int],
    logprob: npt.NDArray[np.float64],
    *,
    path: ScoringPath,
) -> Proof:
    """Compare the `chosen` pairs' scores, `logprob` of shape [len(pairs)] in nats, with one sequence at a time.

    A score that is not finite must not be finite by itself either; where only one of the two is finite, the difference is infinite.
    """
    some = [pairs[index] for index in chosen]
    n_tokens = np.array([pair.n_tokens for pair in some])
    alone = one_by_one(model, some) / n_tokens
    found = logprob[list(chosen)] / n_tokens
    finite = np.isfinite(alone) & np.isfinite(found)
    off = np.abs(np.where(finite, found, 0.0) - np.where(finite, alone, 0.0))
    off[np.isfinite(alone) != np.isfinite(found)] = np.inf
    bound = max(_floor(alone), factor(model) * rounding(model, some[-N_DRAWN:], alone[-N_DRAWN:], seeds=SEEDS))
    beyond = np.flatnonzero((off > bound) & finite)
    if len(beyond):  # the rounding of these pairs themselves, before they are said to be wrong
        again = [some[index] for index in beyond.tolist()]
        bound = max(bound, factor(model) * rounding(model, again, alone[beyond], seeds=MORE_SEEDS))
    return Proof(path=path, n_pairs=len(some), largest=float(off.max(initial=0.0)), bound=float(bound))


def one_by_one(model: Any, pairs: Sequence[TokenPair]) -> npt.NDArray[np.float64]:
    """log P(r | q) in nats, shape [len(pairs)]: a forward pass of the model's own code for each pair."""
    return score_padded(model, pairs, batch_tokens=1, progress=SilentProgress()).logprob


def rounding(model: Any, pairs: Sequence[TokenPair], alone: npt.NDArray[np.float64], *, seeds: int) -> float:
    """Largest change, in nats per token, under random noise in the last place of the outputs of decoder layers and their parts, and of
    the head's input.

    `alone`: the pairs' nats per token without noise. 0.0 where no score is finite.
    """
    n_tokens = np.array([pair.n_tokens for pair in pairs])
    largest = 0.0
    for seed in range(seeds):
        with _disturbed(model, seed):
            changed = one_by_one(model, pairs) / n_tokens
        finite = np.isfinite(changed) & np.isfinite(alone)
        largest = max(largest, float(np.max(np.abs(changed[finite] - alone[finite]), initial=0.0)))
    return largest


def factor(model: Any) -> float:
    """FACTOR or HALF_FACTOR."""
    return HALF_FACTOR if next(model.parameters()).dtype.itemsize < 4 else FACTOR


def _floor(alone: npt.NDArray[np.float64]) -> float:
    return FLOOR * (1 + float(np.max(np.abs(alone[np.isfinite(alone)]), initial=0.0)))


@contextlib.contextmanager
def _disturbed(model: Any, seed: int) -> Iterator[None]:
    generators: dict[torch.device, torch.Generator] = {}

    def noisy(value: Any) -> Any:
        if isinstance(value, tuple):
            return (noisy(value[0]), *value[1:])
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return value
        if value.device not in generators:
            generators[value.device] = torch.Generator(value.device).manual_seed(seed)
        wide = torch.float64 if value.dtype in (torch.float32, torch.float64) else torch.float32
        eps = torch.finfo(value.dtype).eps
        noise = torch.rand(value.shape, dtype=wide, device=value.device, generator=generators[value.device])
        return (value.to(wide) * (1 + eps * (2 * noise - 1))).to(value.dtype)

    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    handles = [
        part.register_forward_hook(lambda _module, _given, result: noisy(result)) for part in _rounding(model, head)
    ]
    if head is not None:
        handles.append(head.register_forward_pre_hook(lambda _module, given: noisy(given)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rounding(model: Any, head: Any) -> list[Any]:
    """The modules whose outputs get noise: decoder layers, and every part of them with weights of its own. In a model without a list of
    such layers those of its other module lists, or else all modules.
    """
    layers = decoder_layers(model)
    stacks = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    whole = [layers] if layers is not None else stacks or [model]
    parts = [
        part for stack in whole for part in stack.modules() if next(part.parameters(recurse=False), None) is not None
    ]
    ends = [layer for stack in whole if isinstance(stack, torch.nn.ModuleList) for layer in stack]
    return [part for part in dict.fromkeys([*parts, *ends]) if part is not head]


def sample(pairs: Sequence[TokenPair], packs: Sequence[Pack], limits: Sequence[int]) -> list[int]:
    """Indices of the pairs to compare, none twice: the longest, the last of the fullest pack, one that shares most, the
    shortest beyond each limit that is reached, and N_DRAWN drawn with a seed, which come last. `packs` may be empty.
    """
    if not pairs:
        return []
    lengths = np.array([len(pair.ids) for pair in pairs])
    chosen = [int(lengths.argmax()), int(lengths.argmin())]
    if packs:
        fullest = max(packs, key=lambda pack: len(pack.ids))
        chosen.append(int(fullest.pair[-1]))
        chosen.append(_sharing_most(pairs, max(packs, key=lambda pack: pack.n_pair_tokens - len(pack.ids))))
    for limit in limits:
        beyond = np.flatnonzero(lengths - 1 > limit)
        if len(beyond):
            chosen.append(int(beyond[lengths[beyond].argmin()]))
    always = list(dict.fromkeys(chosen))
    rest = np.setdiff1d(np.arange(len(pairs)), always)
    drawn = np.random.default_rng(0).permutation(rest)[:N_DRAWN]
    return [*always, *drawn.tolist()]


def _sharing_most(pairs: Sequence[TokenPair], pack: Pack) -> int:
    """The pair of the pack that shares the longest beginning with another."""
    members = sorted({int(index) for index in pack.pair}, key=lambda index: pairs[index].ids.tolist())
    best, most = members[0], -1
    for first, second in itertools.pairwise(members):
        common = common_prefix(pairs[first].ids, pairs[second].ids)
        if common > most:
            best, most = second, common
    return best
