"""Log-probabilities of responses under a transformers causal LM, as fast as the machine allows: the engine.

`score` packs without padding, reads shared beginnings once and computes the last layer and the head where a score is
read (packed_forward.py). A model that does not allow it is scored by the padded path (padded_logprob.py), with one warning
that says why. Log-sum-exp is in float32 or wider, sums are in float64, whatever the model's dtype.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from harness.core.component import Progress, SilentProgress
from harness.core.digest import digest_json
from harness.core.errors import EngineError
from harness.core.tokens import TokenPair
from harness.engines.scoring.blocked_head import blocked_logprob
from harness.engines.scoring.kept_memory import kept_memory
from harness.engines.scoring.lean_layer import is_known
from harness.engines.scoring.packed_attention import on_device
from harness.engines.scoring.packed_forward import PackedModel, Recipe
from harness.engines.scoring.packs import Pack, PackPlan
from harness.engines.scoring.padded_logprob import Scores, score_padded, undisturbed, vocabulary_size

PACK_TOKENS = {"cpu": 4096, "cuda": 65536}
"""Default tokens per pack."""
SLACK = {"cpu": 0, "cuda": 2**18}
"""Scores that an attention call may compute in vain: on a GPU they cost less than another call."""
CHUNK_LOGITS = {"cpu": 2**22, "cuda": 2**28}
"""Logits held at a time, in elements, where the head can be applied in pieces."""
WHOLE_LOGITS = {"cpu": 2**26, "cuda": 2**30}
"""The same, where it cannot."""
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
"""Nats per token by which the packed path may differ from the padded one when it is tried; half precision: 0.2."""


_ONE_AT_A_TIME = threading.RLock()
"""Hooks, configurations and torch's settings are changed for the length of a call, in the model and in the process."""
_RECIPES: dict[str, Recipe | None] = {}


def score(
    model: Any, plan: PackPlan, *, batch_tokens: int | None = None, progress: Progress, greedy: bool = False
) -> Scores:
    """log P(r | q) of every pair of the plan, in nats.

    Independent of order, budget and neighbours up to float32 rounding. Train/eval state, gradients, attention
    implementation, hooks and random state of the model are as before afterwards. Running out of memory halves the
    budget and goes on. Raises EngineError when a single pair does not fit.
    """
    device = next(model.parameters()).device
    _check_targets(plan, vocabulary_size(model))
    limit = _short_text(model)
    short = np.array([limit is None or len(pair.ids) - 1 <= limit for pair in plan.pairs], dtype=bool)
    if 0 < short.sum() < len(short):
        found = Scores(np.zeros(len(short)), np.zeros(len(short), dtype=bool))
        for chosen in (np.flatnonzero(short), np.flatnonzero(~short)):
            part = PackPlan([plan.pairs[i] for i in chosen.tolist()])
            scores = score(model, part, batch_tokens=batch_tokens, progress=progress, greedy=greedy)
            found.logprob[chosen], found.greedy[chosen] = scores.logprob, scores.greedy
        return found
    with _ONE_AT_A_TIME, undisturbed(model, device):
        recipe = find_recipe(model, device)
        if recipe is None:
            return score_padded(model, plan.pairs, batch_tokens=batch_tokens, progress=progress, greedy=greedy)
        work = _Work(plan, recipe, vocabulary_size(model), device, batch_tokens, progress, greedy)
        with PackedModel(model, recipe).prepared() as packed, kept_memory(device):
            scores = _collect(work.all(packed), len(plan.pairs), greedy)
            broken = np.flatnonzero(~np.isfinite(scores.logprob))
            if len(broken):
                again = _collect(work.apart(packed, broken.tolist()), len(plan.pairs), greedy)
                scores.logprob[broken], scores.greedy[broken] = again.logprob[broken], again.greedy[broken]
    return scores


def _check_targets(plan: PackPlan, vocabulary: int) -> None:
    """The head has a column for every token that is scored: nothing else would notice a last token that it lacks."""
    low, high = plan.targets
    if low >= 0 and high < vocabulary:
        return
    for pair in plan.pairs:
        response = pair.ids[pair.n_context :]
        outside = response[(response < 0) | (response >= vocabulary)]
        if len(outside):
            raise EngineError(
                f"pair {pair.id}: token id {int(outside[0])} has no place in a vocabulary of {vocabulary}; "
                "is the tokenizer the model's own?"
            )


def _short_text(model: Any) -> int | None:
    """Tokens up to which a model has rotary frequencies for short texts: a whole pass gets those of its longest sequence."""
    config = getattr(model.config, "text_config", None) or model.config
    rope = getattr(config, "rope_parameters", None) or {}
    found = [part for part in (rope, *rope.values()) if isinstance(part, dict) and part.get("rope_type") == "longrope"]
    return min((int(part["original_max_position_embeddings"]) for part in found), default=None)


def token_logprobs(model: Any, ids: Sequence[int]) -> list[float]:
    """log P(ids[i] | ids[:i]) for i = 1, 2, ..., in nats, shape [len(ids) - 1]. Raises EngineError."""
    whole = np.asarray(ids, dtype=np.int32)
    pairs = [
        TokenPair(id=str(i), ids=whole[: i + 1], n_context=i, n_bytes=0, cluster=str(i)) for i in range(1, len(whole))
    ]
    return [float(value) for value in score(model, PackPlan(pairs), progress=SilentProgress()).logprob]


Done = list[tuple[Pack, torch.Tensor, torch.Tensor | None]]
"""Packs with the log-probs of their entries and whether they were likeliest, still on the device."""


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
        """Some pairs once more, none in another's sight: NaN gets past a mask, so a broken pair may have spoilt others."""
        packs = self._repacked(chosen, join=False)
        return self._score(packed, packs, join=False, progress=SilentProgress())

    def _repacked(self, chosen: Sequence[int], *, join: bool) -> list[Pack]:
        return self._plan.packs_of(chosen, tokens=self._tokens, rows=self._rows, join=join, slack=SLACK[self._kind])

    def _score(self, packed: PackedModel, packs: Sequence[Pack], *, join: bool, progress: Progress) -> Done:
        waiting = list(packs)[::-1]
        done: Done = []
        while waiting:
            pack = waiting.pop()
            try:
                scored = _score_pack(packed, pack, self._device, self._kind, self._greedy)
            except torch.OutOfMemoryError as error:
                if pack.n_pairs == 1:
                    raise EngineError(
                        f"pair {self._plan.pairs[int(pack.pair[0])].id} ({len(pack.ids)} tokens) does not fit in the "
                        f"memory of {self._device} by itself; free memory or choose another --device"
                    ) from error
                scored = None
            if scored is None:  # after the error is gone: its traceback holds what is to be freed
                packed.buffers.clear()
                torch.cuda.empty_cache()
                self._tokens = max(1, self._tokens // 2)
                self._rows = max(1, min(self._rows, self._whole) // 2)
                left = sorted({int(i) for p in (pack, *waiting) for i in p.pair})
                waiting = self._repacked(left, join=join)[::-1]
                continue
            done.append((pack, *scored))
            progress.advance(pairs=pack.n_pairs, tokens=pack.n_pair_tokens)
        return done


def _collect(done: Done, n_pairs: int, greedy: bool) -> Scores:
    """Sums per pair, in float64 and in a fixed order; one copy from the device."""
    total = np.zeros(n_pairs, dtype=np.float64)
    likeliest = np.full(n_pairs, greedy)
    if done:
        logprob = torch.cat([entry for _, entry, _ in done]).double().cpu().numpy()
        pair = np.concatenate([pack.pair for pack, _, _ in done])
        np.add.at(total, pair, logprob)
        if greedy:
            hit = torch.cat([entry for _, _, entry in done if entry is not None]).cpu().numpy()
            likeliest[pair[~hit]] = False
    return Scores(total, likeliest)


def _score_pack(
    packed: PackedModel, pack: Pack, device: torch.device, kind: str, greedy: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-prob of each entry, shape [E], and whether it was the likeliest token."""
    hidden_RH, logits_RV = packed(pack, device)
    target = on_device(pack.target, device)
    entry_row = on_device(pack.entry_row, device)
    if packed.recipe.plain_head and kind == "cpu" and packed.linear_head is not None:
        return blocked_logprob(packed.linear_head, hidden_RH, entry_row, target, greedy=greedy)
    step = len(pack.rows)
    if packed.recipe.plain_head:
        step = max(1, CHUNK_LOGITS[kind] // logits_RV.shape[-1])
    starts = range(0, len(pack.rows), step)
    bounds = np.searchsorted(pack.entry_row, [*starts, len(pack.rows)]).tolist()
    parts, hits = [], []
    for index, start in enumerate(starts):
        low, high = bounds[index], bounds[index + 1]
        logits = packed.logits(hidden_RH[start : start + step]) if packed.recipe.plain_head else logits_RV
        at = entry_row[low:high] - start
        # The fused kernel: two passes over the logits, where log-sum-exp by itself makes five.
        logprob = torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), dim=-1)
        parts.append(logprob[at, target[low:high]])
        if greedy:
            hits.append(logits.argmax(dim=-1)[at] == target[low:high])
    return torch.cat(parts), torch.cat(hits) if greedy else None


def find_recipe(model: Any, device: torch.device) -> Recipe | None:
    """How to run this kind of model on packs, found by trying it once beside the padded path; null: not at all."""
    config = model.config.to_diff_dict()
    parts = [
        [str(type(module)), "forward" in module.__dict__, [*module._forward_pre_hooks], [*module._forward_hooks]]
        for module in model.modules()
    ]
    parts.append([index for index, module in enumerate(model.modules()) if is_known(module)])
    implementation = str(getattr(model.config, "_attn_implementation", None))
    key = digest_json([parts, implementation, _jsonable(config), str(next(model.parameters()).dtype), device.type])
    if key not in _RECIPES:
        with undisturbed(model, device):
            _RECIPES[key] = _try_recipes(model, device)
    return _RECIPES[key]


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(v) for v in value]
    return value if isinstance(value, str | int | bool | type(None)) else str(value)


def _try_recipes(model: Any, device: torch.device) -> Recipe | None:
    if not hasattr(model, "get_output_embeddings") or model.get_output_embeddings() is None:
        return _fall_back(model, "it has no output embedding")
    pairs = trial_pairs(vocabulary_size(model))
    plan = PackPlan(pairs)
    expected = score_padded(model, pairs, batch_tokens=None, progress=SilentProgress(), greedy=False).logprob
    n_tokens = np.array([pair.n_tokens for pair in pairs])
    reason = "its attention cannot be replaced"
    lean = (True, False) if any(is_known(module) for module in model.modules()) else (False,)
    for recipe in (Recipe(narrow_last=n, plain_head=False, lean=k) for n in (True, False) for k in lean):
        try:
            with PackedModel(model, recipe).prepared() as packed:
                (pack,) = plan.packs(tokens=2**20, rows=2**62)
                hidden, logits = packed(pack, device)
                plain_head = bool(torch.equal(packed.logits(hidden), logits))
            recipe = replace(recipe, plain_head=plain_head)
            kind = device.type if device.type in PACK_TOKENS else "cuda"
            with PackedModel(model, recipe).prepared() as packed:
                entries, _ = _score_pack(packed, pack, device, kind, greedy=False)
            found = _collect([(pack, entries, None)], len(pairs), greedy=False).logprob
            worst = float(np.nanmax(np.abs(found - expected) / n_tokens, initial=0.0))
            if (np.isfinite(found) == np.isfinite(expected)).all() and worst <= TOLERANCE.get(hidden.dtype, 0.2):
                return recipe
            reason = f"its scores differ by {worst:.2g} nats per token"
        except torch.OutOfMemoryError as error:
            raise EngineError(
                f"no memory is left on {device} to score a hundred tokens; free some or choose another --device"
            ) from error
        except Exception as error:  # noqa: BLE001 - a trial of somebody else's model code
            if not recipe.narrow_last:
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    return _fall_back(model, reason)


def _fall_back(model: Any, reason: str) -> Recipe | None:
    """The padded path, with one warning that says why."""
    warnings.warn(f"{type(model).__name__} is scored by the padded path, which is slower: {reason}", stacklevel=2)
    return None


def trial_pairs(vocabulary: int) -> list[TokenPair]:
    """A few short pairs that use everything: shared beginnings, one pair inside another, a single response token."""
    rng = np.random.default_rng(0)
    shared = rng.integers(0, vocabulary, 20)
    tails = [rng.integers(0, vocabulary, n) for n in (1, 5, 9, 2)]
    sequences = [np.concatenate([shared, tail]) for tail in tails] + [shared[:12], rng.integers(0, vocabulary, 7)]
    return [
        TokenPair(id=str(i), ids=ids.astype(np.int32), n_context=n, n_bytes=1, cluster=str(i))
        for i, (ids, n) in enumerate(zip(sequences, (20, 18, 22, 1, 11, 3), strict=True))
    ]
