"""How a kind of model is run on packs: checks its structure, observes one sequence (probe.py), and tries a few short pairs.

The outcome is where scoring starts and proves nothing about a checkpoint, whose scores are compared with its own code each time
(proof.py). An outcome is not cached if the trial's scores were not finite or did not depend on the context.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from harness.core.digest import digest_json
from harness.core.errors import EngineError
from harness.core.tokens import TokenPair
from harness.engines.scoring.lean_layer import is_known
from harness.engines.scoring.packed_forward import PackedModel, Recipe
from harness.engines.scoring.packs import PackPlan
from harness.engines.scoring.padded_logprob import undisturbed, vocabulary_size
from harness.engines.scoring.probe import probe
from harness.engines.scoring.proof import factor, one_by_one, rounding
from harness.engines.scoring.score_pack import collect, score_pack
from harness.engines.scoring.structure import decoder_layers, limits, obstacle, short_text

LEAST = 1e-5
"""Nats per token by which a trial may always differ from one sequence at a time, even if the measured rounding is less."""
BEYOND = 8
"""Tokens by which a trial's sequence is longer than the limit it is to cross."""
VARIES = 10
"""Times the tolerance by which another context must change a score for the outcome to be cached."""

AHEAD = 0.1
"""Fraction of the logits' spread by which later tokens must not change earlier logits: rounding is far below, attention above."""
BOTH_WAYS = (
    "attends to tokens in both directions, so a text has no log-probability under it; a causal language model is needed"
)


class TrialResult(NamedTuple):
    """What a trial found. `recipe` None: the padded path, because of `reason`. `kept`: it may be cached for any weights."""

    recipe: Recipe | None
    reason: str | None
    kept: bool


_OUTCOMES: dict[str, TrialResult] = {}
_WARNED: set[str] = set()


def find_recipe(model: Any, device: torch.device, longest: int = 0) -> Recipe | None:
    """How to run this kind of model on packs of sequences up to `longest` tokens; None: it cannot be.

    Limits of the configuration that no sequence reaches are not tried, since they change no score. Raises EngineError.
    """
    reached = [limit for limit in limits(model) if limit < longest]
    key = _key(model, device, reached)
    outcome = _OUTCOMES.get(key)
    if outcome is None:
        with undisturbed(model, device), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the model's own code
            outcome = _try(model, device, max(reached, default=0))
        if outcome.kept:
            _OUTCOMES[key] = outcome
    if outcome.reason and key not in _WARNED:
        _WARNED.add(key)
        name = type(model).__name__
        warnings.warn(f"{name} is scored by the padded path, which is slower: {outcome.reason}", stacklevel=2)
    return outcome.recipe


def _key(model: Any, device: torch.device, reached: list[int]) -> str:
    """Everything but the weights that an outcome may depend on."""
    parts = [
        [str(type(module)), "forward" in module.__dict__, [*module._forward_pre_hooks], [*module._forward_hooks]]
        for module in model.modules()
    ]
    parts.append([index for index, module in enumerate(model.modules()) if is_known(module)])
    implementation = str(getattr(model.config, "_attn_implementation", None))
    config, dtype = _jsonable(model.config.to_diff_dict()), str(next(model.parameters()).dtype)
    return digest_json([parts, implementation, config, dtype, device.type, list(reached)])


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(v) for v in value]
    return value if isinstance(value, str | int | bool | type(None)) else str(value)


def _try(model: Any, device: torch.device, limit: int) -> TrialResult:
    """The outcome for sequences longer than `limit`."""
    _check_causal(model, device)
    reason = obstacle(model) or _watched(model, device, limit)
    if reason is not None:
        return TrialResult(None, reason, True)
    short = short_text(model)
    pairs = trial_pairs(vocabulary_size(model), limit, all_beyond=short is not None and short <= limit)
    plan = PackPlan(pairs)
    n_tokens = np.array([pair.n_tokens for pair in pairs])
    expected = one_by_one(model, pairs) / n_tokens
    tolerance = max(LEAST, factor(model) * rounding(model, pairs[:6], expected[:6], seeds=2))
    told = bool(np.isfinite(expected).all()) and _reads_its_context(model, pairs[0], expected[0], tolerance)
    reason = "its attention cannot be replaced"
    lean = (True, False) if any(is_known(module) for module in model.modules()) else (False,)
    for recipe in (Recipe(narrow_last=n, plain_head=False, lean=k) for n in (True, False) for k in lean):
        try:
            with PackedModel(model, recipe).prepared() as packed:
                (pack,) = plan.packs(tokens=2**62, rows=2**62)
                hidden, logits = packed(pack, device)
                plain_head = bool(torch.equal(packed.logits(hidden), logits))
            recipe = replace(recipe, plain_head=plain_head)
            with PackedModel(model, recipe).prepared() as packed:
                entries, _ = score_pack(packed, pack, device, greedy=False)
            found = collect([(pack, entries, None)], len(pairs), greedy=False).logprob / n_tokens
            finite = np.isfinite(expected)
            worst = float(np.max(np.abs(found[finite] - expected[finite]), initial=0.0))
            if (np.isfinite(found) == finite).all() and worst <= tolerance:
                return TrialResult(recipe, None, told)
            reason = f"its scores differ by {worst:.2g} nats per token"
        except torch.OutOfMemoryError as error:
            raise EngineError(
                f"no memory is left on {device} to score a hundred tokens; free some or choose another --device"
            ) from error
        except Exception as error:  # noqa: BLE001 - model code may raise anything
            if not recipe.narrow_last:
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    return TrialResult(None, reason, told)


def _watched(model: Any, device: torch.device, limit: int) -> str | None:
    layers = decoder_layers(model)
    assert layers is not None
    ids = _draw(np.random.default_rng(1), vocabulary_size(model), limit + BEYOND)
    try:
        seen = probe(model, torch.from_numpy(ids.astype(np.int64))[None].to(device), len(layers))
    except torch.OutOfMemoryError:
        return f"no memory for a mask of {len(ids)} tokens"
    except Exception as error:  # noqa: BLE001 - model code may raise anything
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    if seen.looks_ahead:
        raise EngineError(f"{type(model).__name__} {BOTH_WAYS}")
    return seen.problem


def _check_causal(model: Any, device: torch.device) -> None:
    """Refuse a model that sees later tokens, or reads its text by an encoder. Raises EngineError."""
    if getattr(model.config, "is_encoder_decoder", False):
        raise EngineError(f"{type(model).__name__} is an encoder-decoder; a causal language model is needed")
    ids = torch.from_numpy(_draw(np.random.default_rng(2), vocabulary_size(model), 12).astype(np.int64))[None].to(
        device
    )
    other = ids.clone()
    other[0, -4:] = ids[0, :4]
    try:
        first, second = (model(input_ids=given, use_cache=False).logits[0, :-4].double() for given in (ids, other))
    except Exception:  # noqa: BLE001 - scoring reports it
        return
    moved, spread = float((first - second).abs().max()), float(first.std())
    if np.isfinite(moved) and moved > AHEAD * spread:
        raise EngineError(f"{type(model).__name__} {BOTH_WAYS}")


def _reads_its_context(model: Any, pair: TokenPair, expected: float, tolerance: float) -> bool:
    """Whether another context changes the score of the pair's response: with a dead model a trial shows nothing."""
    ids = pair.ids.copy()
    ids[: pair.n_context - 1] = ids[: pair.n_context - 1][::-1].copy()
    (other,) = one_by_one(model, [replace(pair, ids=ids)]) / pair.n_tokens
    return bool(abs(other - expected) > VARIES * tolerance)


def trial_pairs(vocabulary: int, limit: int = 0, *, all_beyond: bool = False) -> list[TokenPair]:
    """A few pairs that cover every case: shared beginnings, one pair a prefix of another, a single response token, and with a
    `limit` one that is longer (`all_beyond`: all of them)."""
    rng = np.random.default_rng(0)
    shared = _draw(rng, vocabulary, 20)
    tails = [_draw(rng, vocabulary, n) for n in (1, 5, 9, 2)]
    sequences = [np.concatenate([shared, tail]) for tail in tails] + [shared[:12], _draw(rng, vocabulary, 7)]
    contexts = [20, 18, 22, 1, 11, 3]
    before = _draw(rng, vocabulary, limit)
    if all_beyond:
        sequences = [np.concatenate([before, sequence]) for sequence in sequences]
        contexts = [limit + n for n in contexts]
    elif limit:
        sequences.append(np.concatenate([before, sequences[2]]))
        contexts.append(limit + contexts[2])
    return [
        TokenPair(id=str(i), ids=ids.astype(np.int32), n_context=n, n_bytes=1, cluster=str(i))
        for i, (ids, n) in enumerate(zip(sequences, contexts, strict=True))
    ]


def _draw(rng: np.random.Generator, vocabulary: int, n: int) -> Any:
    return rng.integers(0, vocabulary, n)
