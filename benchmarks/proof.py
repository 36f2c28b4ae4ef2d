"""Every causal architecture of transformers that can be built tiny, against one sequence at a time: which path, how far off.

    python benchmarks/proof.py                       # all of them, float32 and bfloat16
    python benchmarks/proof.py llama jamba --json results/proof.json

Windows, chunks and other limits are set shorter than the pairs. Each architecture is scored with several sets of weights in
unlike orders (freshly initialised, a head of zeros, one NaN, informative); the truth is a loop of this file's own: one
sequence, no padding, log-softmax in float64. Own rounding: the same loop with the last place of each layer disturbed.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import json
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from harness.core.component import SilentProgress
from harness.core.errors import EngineError
from harness.core.tokens import TokenPair
from harness.engines.scoring.packs import PackPlan
from harness.engines.scoring.proof import rounding
from harness.engines.scoring.score import score

VOCABULARY = 300
WINDOW = 16
SLOWEST_S = 2.0
"""CPU seconds that two pairs may take; code written for kernels that are not here takes minutes."""
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "n_embd": 32,
    "d_model": 32,
    "intermediate_size": 64,
    "ffn_dim": 64,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 2,
    "n_layer": 2,
    "n_layers": 2,
    "num_attention_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "n_positions": 512,
    "max_seq_len": 512,
    "sliding_window": WINDOW,
    "attention_chunk_size": WINDOW,
    "window_size": WINDOW,
    "attention_window_size": WINDOW,
    "floor_scale": WINDOW,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "mamba_d_ssm": 64,
    "mamba_d_state": 8,
    "mamba_d_head": 16,
    "mamba_n_heads": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": WINDOW,
    "state_size": 8,
    "chunk_size": WINDOW,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
    "initializer_range": 0.2,
    "init_std": 0.2,
}
ORDERS = ("informative", "fresh, informative", "zero head, informative", "NaN, informative")


class Row(NamedTuple):
    """One architecture in one dtype: the worst pair of the last, informative, checkpoint over all orders, nats per token."""

    architecture: str
    dtype: str
    path: str
    worst: float
    rounding: float
    note: str


def pairs() -> list[TokenPair]:
    """Pairs of 3 to 90 tokens, some of one beginning, some inside others; most are longer than WINDOW."""
    rng = np.random.default_rng(0)
    beginnings = [rng.integers(2, VOCABULARY, 60) for _ in range(4)]
    found = []
    for index in range(24):
        own = rng.integers(2, VOCABULARY, int(rng.integers(2, 40)))
        ids = np.concatenate([beginnings[index % 4][: int(rng.integers(1, 60))], own]).astype(np.int32)
        context = int(rng.integers(1, len(ids)))
        found.append(TokenPair(id=str(index), ids=ids, n_context=context, n_bytes=1, cluster=str(index)))
    return found


def build(name: str, dtype: torch.dtype, seed: int, spread: float) -> Any:
    """A tiny model of a type with random weights of standard deviation `spread`. Raises what transformers raises."""
    config_class = type(AutoConfig.for_model(name))
    known = inspect.signature(config_class.__init__).parameters
    taken = {key: value for key, value in SIZES.items() if key in known or hasattr(config_class(), key)}
    config = AutoConfig.for_model(name, **taken)
    with torch.device("meta"):
        if sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters()) > 2e7:
            raise ValueError("not tiny")
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2 and spread:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return model.to(dtype).eval()


def truth(model: Any, items: list[TokenPair]) -> np.ndarray[Any, Any]:
    """log P(r | q) in nats: one sequence at a time, log-softmax in float64."""
    found = []
    with torch.no_grad():
        for pair in items:
            logits = model(input_ids=torch.from_numpy(pair.ids[:-1].astype(np.int64))[None], use_cache=False).logits[0]
            logprob = torch.log_softmax(logits.double(), dim=-1)
            rows = torch.arange(pair.n_context - 1, len(pair.ids) - 1)
            found.append(float(logprob[rows, torch.from_numpy(pair.ids[pair.n_context :].astype(np.int64))].sum()))
    return np.array(found)


def weights(name: str, dtype: torch.dtype, kind: str) -> Any:
    """A model of the architecture whose weights are of a kind named in ORDERS."""
    if kind == "fresh":
        return build(name, dtype, 1, 0.02)
    model = build(name, dtype, 2, 0.15)
    head = model.get_output_embeddings()
    with torch.no_grad():
        if kind == "zero head" and head is not None:
            head.weight.zero_()
        if kind == "NaN":
            next(p for p in model.parameters() if p.dim() >= 2).fill_(float("nan"))
    return model


def rows(name: str, dtype: torch.dtype) -> Iterator[Row]:
    items = pairs()
    n_tokens = np.array([pair.n_tokens for pair in items])
    label = str(dtype).removeprefix("torch.")
    try:
        last = weights(name, dtype, "informative")
        began = time.process_time()
        truth(last, items[:2])
        if time.process_time() - began > SLOWEST_S:
            raise TimeoutError("too slow on this machine")
        expected = truth(last, items) / n_tokens
    except Exception as error:  # noqa: BLE001 - a table of what can be built
        yield Row(name, label, "-", float("nan"), float("nan"), f"{type(error).__name__}: {str(error)[:60]}")
        return
    own = rounding(last, items, expected, seeds=4)
    worst, paths, note = 0.0, set(), ""
    plan = PackPlan(items)
    for order in ORDERS:
        for kind in order.split(", "):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    scores = score(weights(name, dtype, kind), plan, progress=SilentProgress())
                except EngineError as error:
                    scores, note = None, str(error)[:100]
            note = next((str(w.message).split("slower: ")[1] for w in caught if "slower: " in str(w.message)), note)
        if scores is None:
            paths.add("refused")
            continue
        assert scores.proof is not None
        paths.add(scores.proof.path)
        worst = max(worst, float(np.nanmax(np.abs(scores.logprob / n_tokens - expected))))
    yield Row(name, label, "+".join(sorted(paths)), worst, own, note)


def main() -> None:
    """Print the table; exit 1 where a float32 pair is off by more than 1e-5, or a bfloat16 one by more than its rounding x 8."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("architectures", nargs="*", help="model types; all of transformers' causal ones by default")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    started = time.process_time()
    names = options.architectures or sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    table: list[Row] = []
    bad = []
    for name, dtype in itertools.product(names, (torch.float32, torch.bfloat16)):
        for row in rows(name, dtype):
            table.append(row)
            if row.path == "-":
                continue
            wrong = row.worst > max(1e-5, 8 * row.rounding if row.dtype == "bfloat16" else 0)
            bad += [row] if wrong else []
            figures = f"{row.path:14} {row.worst:9.2g} {row.rounding:9.2g}"
            print(f"{row.architecture:22} {row.dtype:9} {figures} {'WRONG ' if wrong else ''}{row.note}", flush=True)
    skipped = sorted({row.architecture for row in table if row.path == "-"})
    print(f"not built ({len(skipped)}): {', '.join(skipped)}")
    print(f"{len(table)} rows, {len(bad)} wrong, {time.process_time() - started:.0f} CPU s")
    if options.json:
        options.json.write_text(json.dumps([row._asdict() for row in table], indent=1))
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
