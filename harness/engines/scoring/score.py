"""Log-probabilities of responses under a transformers causal LM, as fast as the machine allows: the engine.

`score` packs without padding, reads shared beginnings once and computes the last layer and the head only for rows that predict
a response token (packed_forward.py). A model that does not allow it (recipe.py), or whose scores fail the proof (proof.py), is
scored by the padded path (padded_logprob.py), whose scores are proved the same way. Log-sum-exp is in float32 or wider, sums
are in float64, whatever the model's dtype.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from harness.core.component import Progress, SilentProgress
from harness.core.errors import EngineError
from harness.core.tokens import TokenPair
from harness.engines.scoring.kept_memory import kept_memory
from harness.engines.scoring.moving_rope import own_frequencies_beyond
from harness.engines.scoring.packed_forward import PackedModel, Recipe
from harness.engines.scoring.packs import Pack, PackPlan
from harness.engines.scoring.padded_logprob import (
    embedded_tokens,
    score_padded,
    token_scores,
    undisturbed,
    vocabulary_size,
)
from harness.engines.scoring.proof import prove, sample
from harness.engines.scoring.recipe import find_recipe
from harness.engines.scoring.score_pack import Done, collect, score_pack
from harness.engines.scoring.scores import Proof, Scores
from harness.engines.scoring.structure import limits, short_text

PACK_TOKENS = {"cpu": 4096, "cuda": 65536}
"""Default tokens per pack."""
SLACK = {"cpu": 0, "cuda": 2**18}
"""Attention scores that a call may compute for padding: on a GPU they cost less than another call."""
WHOLE_LOGITS = {"cpu": 2**26, "cuda": 2**30}
"""Logits held at a time, in elements, where the head cannot be applied in pieces."""

_ONE_AT_A_TIME = threading.RLock()
"""A call changes hooks and configurations of the model and settings of torch while it runs."""


def score(
    model: Any, plan: PackPlan, *, batch_tokens: int | None = None, progress: Progress, greedy: bool = False
) -> Scores:
    """log P(r | q) of every pair of the plan, in nats.

    Independent of order, budget and neighbours up to float32 rounding. Train/eval state, gradients, attention
    implementation, hooks and random state of the model are restored. Running out of memory halves the budget and goes on. Raises
    EngineError when a single pair does not fit, or neither path's scores agree with one sequence at a time.
    """
    device = next(model.parameters()).device
    _check_ids(plan, model)
    own = own_frequencies_beyond(model)
    limit = short_text(model) if own is None else own
    short = np.array([limit is None or len(pair.ids) - 1 <= limit for pair in plan.pairs], dtype=bool)
    if 0 < short.sum() < len(short):
        parts = []
        for chosen in (np.flatnonzero(short), np.flatnonzero(~short)):
            part = PackPlan([plan.pairs[i] for i in chosen.tolist()])
            parts.append((chosen, score(model, part, batch_tokens=batch_tokens, progress=progress, greedy=greedy)))
        return _joined(parts, len(short))
    with _ONE_AT_A_TIME, undisturbed(model, device):
        one_length = own is not None and not short.all()
        longest = max((len(pair.ids) - 1 for pair in plan.pairs), default=0)
        recipe = None if one_length else find_recipe(model, device, longest=longest)
        failed = None
        if recipe is not None:
            scores, failed = _packed(model, recipe, plan, device, batch_tokens, progress, greedy)
            if failed is None:
                return scores
            progress = SilentProgress()  # the items have been counted already
        scores = score_padded(
            model, plan.pairs, batch_tokens=batch_tokens, progress=progress, greedy=greedy, one_length=one_length
        )
        proof = prove(model, plan.pairs, sample(plan.pairs, (), limits(model)), scores.logprob, path="padded")
    if not proof.holds:
        tried = f"{_words(failed)}, and {_words(proof)}" if failed else _words(proof)
        raise EngineError(f"{type(model).__name__} is not scored, because {tried}")
    return scores._replace(proof=proof)


def _packed(
    model: Any,
    recipe: Recipe,
    plan: PackPlan,
    device: torch.device,
    batch_tokens: int | None,
    progress: Progress,
    greedy: bool,
) -> tuple[Scores, Proof | None]:
    """Scores over packs with their proof, and that proof again if it does not hold, else None."""
    work = _Work(plan, recipe, vocabulary_size(model), device, batch_tokens, progress, greedy)
    with PackedModel(model, recipe).prepared() as packed, kept_memory(device):
        done = work.all(packed)
        scores = collect(done, len(plan.pairs), greedy=greedy)
        broken = np.flatnonzero(~np.isfinite(scores.logprob))
        if len(broken):
            again = collect(work.apart(packed, broken.tolist()), len(plan.pairs), greedy=greedy)
            scores.logprob[broken], scores.greedy[broken] = again.logprob[broken], again.greedy[broken]
    packs, beyond = [pack for pack, _, _ in done], limits(model)
    chosen = plan.chosen((len(packs), *beyond), lambda: sample(plan.pairs, packs, beyond))
    proof = prove(model, plan.pairs, chosen, scores.logprob, path="packed")
    return scores._replace(proof=proof), None if proof.holds else proof


def _words(proof: Proof) -> str:
    return (
        f"by the {proof.path} path a pair differs by {proof.largest:.2g} nats per token from what it scores alone, "
        f"and rounding explains {proof.bound:.2g}"
    )


def _joined(parts: Sequence[tuple[npt.NDArray[np.int64], Scores]], n_pairs: int) -> Scores:
    """The scores of all pairs from the scores of parts, each with the positions of its pairs."""
    found = Scores(np.zeros(n_pairs), np.zeros(n_pairs, dtype=bool))
    proofs = [scores.proof for _, scores in parts if scores.proof is not None]
    for chosen, scores in parts:
        found.logprob[chosen], found.greedy[chosen] = scores.logprob, scores.greedy
    return found._replace(proof=functools.reduce(Proof.joined, proofs) if proofs else None)


def _check_ids(plan: PackPlan, model: Any) -> None:
    """Raises EngineError for a token that is read and has no row in the embedding, or is scored and has no column in the head.

    Otherwise a last token that the head lacks would go unnoticed, and one that the embedding lacks would be an IndexError on a CPU,
    and on a GPU an assertion after which the process cannot use the GPU any more.
    """
    columns, rows = vocabulary_size(model), embedded_tokens(model)
    if 0 <= plan.targets[0] <= plan.targets[1] < columns and 0 <= plan.inputs[0] <= plan.inputs[1] < rows:
        return
    for pair in plan.pairs:
        for ids, size in ((pair.ids[:-1], rows), (pair.ids[pair.n_context :], columns)):
            outside = ids[(ids < 0) | (ids >= size)]
            if len(outside):
                raise EngineError(
                    f"pair {pair.id}: token id {int(outside[0])} has no place in a vocabulary of {size}; "
                    "is the tokenizer the model's own, and were the embeddings resized when tokens were added?"
                )


def token_logprobs(model: Any, ids: Sequence[int]) -> list[float]:
    """log P(ids[i] | ids[:i]) for i = 1, 2, ..., in nats, shape [len(ids) - 1]. Raises EngineError."""
    whole = np.asarray(ids, dtype=np.int32)
    pair = TokenPair(id="ids", ids=whole, n_context=1, n_bytes=0, cluster="ids")
    _check_ids(PackPlan([pair]), model)
    with _ONE_AT_A_TIME:
        return token_scores(model, pair)


class _Work:
    """The packs of one call, scored one after the other within a budget that shrinks when memory runs out."""

    def __init__(
        self,
        plan: PackPlan,
        recipe: Recipe,
        vocabulary: int,
        device: torch.device,
        batch_tokens: int | None,
        progress: Progress,
        greedy: bool,
    ) -> None:
        self._plan, self._device, self._progress, self._greedy = plan, device, progress, greedy
        self._kind = device.type if device.type in PACK_TOKENS else "cuda"
        self._tokens = batch_tokens or PACK_TOKENS[self._kind]
        self._whole = max(1, WHOLE_LOGITS[self._kind] // vocabulary)
        self._rows = 2**62 if recipe.plain_head else self._whole

    def all(self, packed: PackedModel) -> Done:
        """Every pair of the plan."""
        packs = self._plan.packs(tokens=self._tokens, rows=self._rows, slack=SLACK[self._kind])
        return self._score(packed, packs, join=True, progress=self._progress)

    def apart(self, packed: PackedModel, chosen: Sequence[int]) -> Done:
        """Some pairs again, without masked branches: masks do not stop NaN, so another pair's may have reached them."""
        packs = self._repacked(chosen, join=False)
        return self._score(packed, packs, join=False, progress=SilentProgress())

    def _repacked(self, chosen: Sequence[int], *, join: bool) -> list[Pack]:
        return self._plan.packs_of(chosen, tokens=self._tokens, rows=self._rows, join=join, slack=SLACK[self._kind])

    def _score(self, packed: PackedModel, packs: Sequence[Pack], *, join: bool, progress: Progress) -> Done:
        waiting = list(packs)[::-1]
        done: list[tuple[Pack, torch.Tensor, torch.Tensor | None]] = []
        while waiting:
            pack = waiting.pop()
            try:
                scored = score_pack(packed, pack, self._device, greedy=self._greedy)
            except torch.OutOfMemoryError as error:
                if pack.n_pairs == 1:
                    raise EngineError(
                        f"pair {self._plan.pairs[int(pack.pair[0])].id} ({len(pack.ids)} tokens) does not fit in the "
                        f"memory of {self._device} by itself; free memory or choose another --device"
                    ) from error
                scored = None
            if scored is None:  # outside the except block: the error's traceback holds the tensors that are to be freed
                packed.buffers.clear()
                torch.cuda.empty_cache()
                self._tokens = max(1, self._tokens // 2)
                self._rows = max(1, min(self._rows, self._whole) // 2)
                left = sorted({int(i) for p in (pack, *waiting) for i in p.pair})
                waiting = self._repacked(left, join=join)[::-1]
                continue
            done.append((pack, *scored))
            progress.advance(items=pack.n_pairs, tokens=pack.n_pair_tokens)
        return done
