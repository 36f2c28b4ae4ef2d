"""Log-probabilities of responses by padded batches: works for every causal LM, and is what the packed path is compared with.

Padding changes no score; log-softmax in float32 or wider, sums in float64. Knows ids and a model, nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from harness.core.component import Progress
from harness.core.errors import EngineError
from harness.core.tokens import TokenPair
from harness.engines.scoring.moving_rope import settle
from harness.engines.scoring.scores import Scores
from harness.engines.scoring.structure import text_config

BATCH_TOKENS = {"cpu": 2048, "cuda": 32768}
"""Default tokens per batch, padding included."""
BATCH_LOGITS = {"cpu": 2**26, "cuda": 2**29}
"""Most logits held at once, in elements: rows times vocabulary. A single pair may exceed it."""
CHUNK_LOGITS = 2**24
"""Logits widened to float32 at a time."""


class Entries(NamedTuple):
    """The response tokens of a batch, still on the device."""

    pair: npt.NDArray[np.int64]
    """Which pair each belongs to, shape [R]."""
    logprob: torch.Tensor
    """Shape [R]."""
    hit: torch.Tensor | None
    """Whether each was the likeliest, shape [R]; None where it was not asked for."""


def score_padded(
    model: Any,
    pairs: Sequence[TokenPair],
    *,
    batch_tokens: int | None = None,
    progress: Progress,
    greedy: bool = False,
    one_length: bool = False,
) -> Scores:
    """log P(r | q) of every pair in nats; with `one_length`, only sequences of one length share a batch.

    The sum runs over the response's tokens; log-softmax is computed in float32 (float64 for a float64 model) and
    summed in float64 whatever the model's dtype. NaN or infinity in the logits comes out as a value that is not finite.
    The head is applied to the rows that predict a response token and to no others. The model's train/eval state,
    gradients, hooks and the random state are restored. Running out of memory halves the batch and goes on.
    Raises EngineError when a single pair does not fit, or the model does not return logits.
    """
    device = next(model.parameters()).device
    kind = device.type if device.type in BATCH_TOKENS else "cuda"
    budget = batch_tokens or BATCH_TOKENS[kind]
    rows_budget = max(1, BATCH_LOGITS[kind] // vocabulary_size(model))
    pending = sorted(range(len(pairs)), key=lambda i: (-len(pairs[i].ids), i))
    done: list[Entries] = []
    with undisturbed(model, device):
        while pending:
            batch = _take(pending, pairs, budget, rows_budget, one_length)
            try:
                done.append(_score_batch(model, pairs, batch, device, greedy))
            except torch.OutOfMemoryError as error:
                torch.cuda.empty_cache()
                if len(batch) == 1:
                    pair = pairs[batch[0]]
                    raise EngineError(
                        f"pair {pair.id} ({len(pair.ids)} tokens) does not fit in the memory of {device} by itself; "
                        "free memory, choose another --device, or set overflow: skip with a shorter context"
                    ) from error
                budget, rows_budget = max(1, budget // 2), max(1, rows_budget // 2)
                continue
            del pending[: len(batch)]
            progress.advance(items=len(batch), tokens=sum(len(pairs[i].ids) - 1 for i in batch))
        return _collect(done, len(pairs), greedy)


def token_scores(model: Any, pair: TokenPair) -> list[float]:
    """log P of each of the response's tokens, in nats, shape [n_tokens]: one sequence by the model's own code."""
    device = next(model.parameters()).device
    with undisturbed(model, device):
        entries = _score_batch(model, [pair], [0], device, False)
        found: list[float] = entries.logprob.double().cpu().tolist()
    return found


def _collect(done: Sequence[Entries], n_pairs: int, greedy: bool) -> Scores:
    """Sums per pair, in float64; one copy from the device."""
    total = np.zeros(n_pairs, dtype=np.float64)
    likeliest = np.full(n_pairs, greedy)
    if done:
        pair = np.concatenate([entries.pair for entries in done])
        np.add.at(total, pair, torch.cat([entries.logprob for entries in done]).double().cpu().numpy())
        if greedy:
            hit = torch.cat([entries.hit for entries in done if entries.hit is not None]).cpu().numpy()
            likeliest[pair[~hit]] = False
    return Scores(total, likeliest)


def _take(
    pending: Sequence[int], pairs: Sequence[TokenPair], budget: int, rows_budget: int, one_length: bool
) -> list[int]:
    """The next batch: the longest pairs left, while width times count stays in the budget. At least one."""
    width = len(pairs[pending[0]].ids) - 1
    batch: list[int] = []
    rows = 0
    for index in pending:
        rows += pairs[index].n_tokens
        if batch and (width * (len(batch) + 1) > budget or rows > rows_budget):
            break
        if one_length and len(pairs[index].ids) - 1 < width:
            break
        batch.append(index)
    return batch


def _score_batch(
    model: Any, pairs: Sequence[TokenPair], batch: Sequence[int], device: torch.device, greedy: bool
) -> Entries:
    """Rows are padded on the right, which causal attention never looks at. Nothing here waits for a GPU.

    Padding repeats a row's first token, so that a row never reads a (possibly broken) embedding that is not its own.
    """
    width = max(len(pairs[index].ids) for index in batch) - 1
    ids = np.empty((len(batch), width), dtype=np.int64)
    owner, position, target, indices = [], [], [], []
    for row, index in enumerate(batch):
        pair = pairs[index]
        length = len(pair.ids) - 1
        ids[row, :length] = pair.ids[:-1]
        ids[row, length:] = pair.ids[0]
        owner.append(np.full(pair.n_tokens, row))
        indices.append(np.full(pair.n_tokens, index))
        position.append(np.arange(pair.n_context - 1, length))
        target.append(pair.ids[pair.n_context :].astype(np.int64))
    owner_R, position_R, target_R = (
        torch.from_numpy(np.concatenate(parts)).to(device, non_blocking=True) for parts in (owner, position, target)
    )
    ids_BT = torch.from_numpy(ids).to(device, non_blocking=True)
    logits_RV = _response_logits(model, ids_BT, owner_R, position_R)
    hit = logits_RV.argmax(dim=1) == target_R if greedy else None
    return Entries(np.concatenate(indices), _logprob(logits_RV, target_R), hit)


def _response_logits(model: Any, ids_BT: torch.Tensor, owner_R: torch.Tensor, position_R: torch.Tensor) -> torch.Tensor:
    """Logits at the given rows, shape [R, V]. The head sees only those rows: its input is narrowed on the way in."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None

    def narrow(_module: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if not inputs or inputs[0].shape[:2] != ids_BT.shape:
            return inputs
        hidden = inputs[0]
        return (hidden[owner_R, position_R].unsqueeze(0), *inputs[1:])

    handle = head.register_forward_pre_hook(narrow) if head is not None else None
    settle(model)
    try:
        output = model(input_ids=ids_BT, use_cache=False)
    finally:
        if handle is not None:
            handle.remove()
    logits: torch.Tensor | None = getattr(output, "logits", None)
    if logits is None:
        raise EngineError(f"{type(model).__name__} returns no logits; a causal language model is needed")
    if logits.shape[:2] == ids_BT.shape:
        return logits[owner_R, position_R]
    if logits.shape[:2] == (1, len(owner_R)):
        return logits[0]
    raise EngineError(
        f"{type(model).__name__} returns logits of shape {tuple(logits.shape)} for {tuple(ids_BT.shape)} tokens"
    )


def _logprob(logits_RV: torch.Tensor, target_R: torch.Tensor) -> torch.Tensor:
    """log-softmax at the targets, shape [R], computed in float32 or wider, a slice of rows at a time."""
    wide = torch.float64 if logits_RV.dtype == torch.float64 else torch.float32
    step = max(1, CHUNK_LOGITS // logits_RV.shape[1])
    parts = []
    for start in range(0, len(target_R), step):
        chunk = logits_RV[start : start + step].to(wide)
        chosen = chunk.gather(1, target_R[start : start + step, None])[:, 0]
        parts.append(chosen - torch.logsumexp(chunk, dim=1))
    return torch.cat(parts)


def vocabulary_size(model: Any) -> int:
    """Columns of the logits."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    weight = getattr(head, "weight", None)
    if weight is not None:
        return int(weight.shape[0])
    return int(getattr(text_config(model), "vocab_size", 2**15))


def embedded_tokens(model: Any) -> int:
    """Rows of the input embedding; as many as the logits have columns where a model does not show it."""
    table = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    weight = getattr(table, "weight", None)
    return vocabulary_size(model) if weight is None else int(weight.shape[0])


@contextlib.contextmanager
def undisturbed(model: Any, device: torch.device) -> Iterator[None]:
    """Evaluation mode without gradients or autocast; train/eval state (per module) and random state are restored afterwards."""
    training = [module for module in model.modules() if module.training]
    devices = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        torch.no_grad(),
        torch.autocast(device.type, enabled=False),
        _unplanned_attention(),
        _uncompiled(model),
    ):
        for module in training:
            module.training = False
        try:
            yield
        finally:
            for module in training:
                module.training = True


@contextlib.contextmanager
def _unplanned_attention() -> Iterator[None]:
    """Without cuDNN's attention, which torch prefers on recent GPUs: it plans for every new shape, some tenths of a second each, and
    hardly two batches or packs have the same shape. Left on where the math implementation is off, as it may be the only one allowed.
    """
    backends: Any = torch.backends.cuda
    planned = backends.cudnn_sdp_enabled()
    backends.enable_cudnn_sdp(planned and not backends.math_sdp_enabled())
    try:
        yield
    finally:
        backends.enable_cudnn_sdp(planned)


def _uncompiled(model: Any) -> contextlib.AbstractContextManager[None]:
    """Modules compiled in place run as written: no compilation per batch width, no trace of our hook in their graphs."""
    compiled = any(getattr(module, "_compiled_call_impl", None) is not None for module in model.modules())
    if not compiled:
        return contextlib.nullcontext()
    stance: contextlib.AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance
