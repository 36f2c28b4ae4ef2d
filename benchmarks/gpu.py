"""The GPU's table: a proxy and a 3B-class model on 1,531 + 1,500 pairs, beside the floor and lm-eval's `hf` on the same card.

Wall time with the device synchronised before and after, median of rounds. bf16, as both sides would run there. The peer
is timed on a sample, at the best of some batch sizes, and multiplied by tokens.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from comparison import floor_operations
from peer import Peer
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM
from workloads import distinct_tokens, make_model, make_workload

from harness.core.component import SilentProgress
from harness.core.tokens import TokenPair
from harness.engines.scoring.packs import PackPlan
from harness.engines.scoring.score import score

SETS = ("MMLU 0-shot gold", "MATH")
BATCH_SIZES = (1, 8, 32, 128)
PEER_PAIRS = 128
"""Of each set, for the peer."""
PROXY_TARGET_S = 0.25
LARGE_TARGET = 1.3
"""Times the floor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One model. Seconds of wall time for all pairs, once they are packed."""

    model: str
    n_parameters: int
    n_pairs: int
    ours_s: float
    peer_s: float
    peer_batch: int
    floor_s: float
    ours_error: float
    """Mean difference to float32 per token, nats; the peer's beside it. Both on the peer's sample."""
    peer_error: float

    @property
    def speedup(self) -> float:
        return self.peer_s / self.ours_s

    @property
    def times_floor(self) -> float:
        return self.ours_s / self.floor_s

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "speedup": self.speedup, "times_floor": self.times_floor}


def large_model(device: torch.device) -> Any:
    """3.2B parameters with a vocabulary of 128,256, made on the device in bf16."""
    config = LlamaConfig(
        vocab_size=128_256,
        hidden_size=3072,
        intermediate_size=8192,
        num_hidden_layers=28,
        num_attention_heads=24,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            return LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)


def seconds(device: torch.device, function: Callable[[], Any]) -> float:
    """Wall time of one call, all its work on the device included."""
    wait(device)
    start = time.perf_counter()
    function()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    """For what the device has been given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_rate(device: torch.device, size: int) -> float:
    """Operations per second of the best bf16 product seen."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    return 2.0 * size**3 / min(seconds(device, lambda: a @ b) for _ in range(10))


def measure_line(
    name: str, model: Any, device: torch.device, *, questions: int | None, peak: float, rounds: int
) -> Line:
    """Ours on everything, the peer on a sample of it."""
    sets = [make_workload(of, "128k", questions=questions).pairs for of in SETS]
    plans = [PackPlan(pairs) for pairs in sets]
    scored: Callable[[], list[Any]] = lambda: [score(model, plan, progress=SilentProgress()) for plan in plans]  # noqa: E731
    scored()
    ours_s = statistics.median(seconds(device, scored) for _ in range(rounds))
    counts = [distinct_tokens(pairs) for pairs in sets]
    floor = floor_operations(model, sum(n for n, _ in counts), sum(n for _, n in counts))

    sample = [pair for pairs in sets for pair in pairs[:: max(1, len(pairs) // PEER_PAIRS)]]
    best, batch, theirs = float("inf"), 0, []
    for size in BATCH_SIZES if device.type == "cuda" else BATCH_SIZES[:1]:
        peer = Peer(model, device=str(device), batch_size=size)
        values: list[list[float]] = []
        run = functools.partial(lambda out, peer: out.append(peer.score(sample)), values, peer)
        try:
            # The first time pays for what is made once per shape, such as cuDNN's plans.
            taken = min(seconds(device, run) for _ in range(2))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        if taken < best:
            best, batch, theirs = taken, size, values[0]
    share = total_tokens(sample) / sum(map(total_tokens, sets))
    ours = score(model, PackPlan(sample), progress=SilentProgress()).logprob
    truth = score(model.float(), PackPlan(sample), progress=SilentProgress()).logprob
    n_tokens = np.array([pair.n_tokens for pair in sample])
    return Line(
        model=name,
        n_parameters=sum(p.numel() for p in model.parameters()),
        n_pairs=sum(map(len, sets)),
        ours_s=ours_s,
        peer_s=best / share,
        peer_batch=batch,
        floor_s=floor / peak,
        ours_error=float(np.abs((ours - truth) / n_tokens).mean()),
        peer_error=float(np.abs((np.array(theirs) - truth) / n_tokens).mean()),
    )


def total_tokens(pairs: Sequence[TokenPair]) -> int:
    """Read one by one."""
    return sum(len(pair.ids) - 1 for pair in pairs)


def measure_gpu(device: torch.device, *, questions: int | None, rounds: int, large: bool = True) -> list[Line]:
    """Both models; `questions` per set, None for the real sizes. float32 is float32: no TF32 in the truth."""
    torch.set_float32_matmul_precision("highest")
    peak = peak_rate(device, 8192 if device.type == "cuda" else 512)
    proxy = make_model("128k").to(device, torch.bfloat16)
    lines = [measure_line("proxy", proxy, device, questions=questions, peak=peak, rounds=rounds)]
    del proxy
    if large:
        lines.append(
            measure_line("3B class", large_model(device), device, questions=questions, peak=peak, rounds=rounds)
        )
    return lines


def show_gpu(lines: Sequence[Line], console: Console, device: torch.device) -> None:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    table = Table(
        title=f"{name}, bf16, seconds; the aims are {PROXY_TARGET_S} s (proxy) and {LARGE_TARGET}x the floor (3B)"
    )
    columns = (
        "model",
        "parameters",
        "pairs",
        "lm-eval hf",
        "its batch",
        "ours",
        "speed-up",
        "floor",
        "times the floor",
    )
    for column in (*columns, "error, lm-eval", "error, ours"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for line in lines:
        table.add_row(
            line.model,
            f"{line.n_parameters / 1e6:.0f}M",
            str(line.n_pairs),
            f"{line.peer_s:.2f}",
            str(line.peer_batch),
            f"{line.ours_s:.3f}",
            f"{line.speedup:.1f}",
            f"{line.floor_s:.3f}",
            f"{line.times_floor:.2f}",
            f"{line.peer_error:.1e}",
            f"{line.ours_error:.1e}",
        )
    console.print(table)
