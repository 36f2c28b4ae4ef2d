"""Ours beside the peer on one set: seconds, the floor, agreement, and what each step of the engine brings.

Process CPU time, one thread, in rounds: ours on the whole set, then the peer on a sample of its questions. The peer's cost
is linear in its requests (batch size 1), so its seconds for the set are the median over rounds of its seconds per token read,
times the tokens it would read. With --full the rounds' samples together are the whole set.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from machine import cpu_seconds, matmul_precision
from peer import Peer
from workloads import Workload, distinct_tokens

from harness.core.component import SilentProgress
from harness.core.tokens import TokenPair
from harness.engines.scoring.blocked_head import blocked_logprob
from harness.engines.scoring.kept_memory import kept_memory
from harness.engines.scoring.packed_forward import PackedModel, Recipe
from harness.engines.scoring.packs import PackPlan
from harness.engines.scoring.padded_logprob import score_padded
from harness.engines.scoring.score import PACK_TOKENS, score

PEER_TOKENS = 2_500
"""Tokens the peer reads per round and setting, about, unless the whole set is asked for."""
Pairs = tuple[TokenPair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. Seconds are process CPU seconds for the whole set."""

    name: str
    size: str
    target: float | None
    """Speed-up over the peer that was aimed at."""
    n_questions: int
    n_full: int
    n_pairs: int
    n_tokens: int
    """Read by the peer."""
    n_distinct: int
    n_rows: int
    packing_s: float
    """Building the packs: once per tokenizer and field, not per checkpoint."""
    ours_s: float
    ours_medium_s: float
    peer_s: float
    peer_medium_s: float
    peer_requests: int
    """Requests the peer's seconds were measured on."""
    floor_s: float
    worst_per_token: float
    """Largest difference to the peer, nats per token."""
    field_difference: float
    """Difference of Eq. 1 over the requests that both scored, nats per token."""

    @property
    def speedup(self) -> float:
        return self.peer_s / self.ours_s

    @property
    def speedup_medium(self) -> float:
        """Over the peer with `medium`, both sides with it."""
        return self.peer_medium_s / self.ours_medium_s

    @property
    def speedup_at_floor(self) -> float:
        """What the floor would bring: no scorer in float32 is faster on this core."""
        return self.peer_s / self.floor_s

    @property
    def share(self) -> float:
        """Of the floor that is reached."""
        return self.floor_s / self.ours_s

    def to_json(self) -> dict[str, Any]:
        names = ("speedup", "speedup_medium", "speedup_at_floor", "share")
        return {**asdict(self), **{name: getattr(self, name) for name in names}}


def floor_operations(model: Any, n_distinct: int, n_rows: int) -> float:
    """Multiplications and additions of the matrix products that no scorer avoids; attention and elementwise work are free.

    Every layer over the distinct tokens, but of the last one only keys and values; its rest and the head over the
    predicting rows.
    """
    *layers, last = model.model.layers
    keys = sum(module.weight.numel() for module in (last.self_attn.k_proj, last.self_attn.v_proj))
    narrow = _products(last) - keys + model.lm_head.weight.numel()
    return 2.0 * (n_distinct * (sum(map(_products, layers)) + keys) + n_rows * narrow)


def _products(layer: torch.nn.Module) -> int:
    return sum(module.weight.numel() for module in layer.modules() if isinstance(module, torch.nn.Linear))


def compare(
    model: Any, size: str, workload: Workload, *, target: float | None, peak: float, rounds: int, full: bool
) -> Row:
    """One line of the table."""
    pairs = workload.pairs
    plan = PackPlan(pairs)
    packing_s = cpu_seconds(lambda: plan.packs(tokens=PACK_TOKENS["cpu"], rows=2**62))
    peer = Peer(model)
    score(model, PackPlan(pairs[:2]), progress=SilentProgress())
    peer.score(pairs[:2])
    ours: dict[str, list[float]] = {"highest": [], "medium": []}
    theirs: dict[str, list[float]] = {"highest": [], "medium": []}
    found: list[npt.NDArray[np.float64]] = []
    expected: dict[int, float] = {}
    for chosen in samples(workload, rounds=rounds, full=full):
        sample = [pairs[index] for index in chosen]
        read = sum(len(pair.ids) - 1 for pair in sample)
        for precision in ours:
            values: list[list[float]] = []
            with matmul_precision(precision):
                ours[precision].append(cpu_seconds(lambda: found.append(our_score(model, plan))))
                seconds = cpu_seconds(lambda out=values, given=sample: out.append(peer.score(given)))
            theirs[precision].append(seconds / read)
            if precision == "highest":
                expected.update(zip(chosen, values[0], strict=True))
    n_tokens = sum(len(pair.ids) - 1 for pair in pairs)
    n_distinct, n_rows = distinct_tokens(pairs)
    both = sorted(expected)
    per_token = np.array([1 / pairs[index].n_tokens for index in both])
    difference = (found[0][both] - np.array([expected[index] for index in both])) * per_token
    return Row(
        name=workload.name,
        size=size,
        target=target,
        n_questions=workload.n_questions,
        n_full=workload.full,
        n_pairs=len(pairs),
        n_tokens=n_tokens,
        n_distinct=n_distinct,
        n_rows=n_rows,
        packing_s=packing_s,
        ours_s=statistics.median(ours["highest"]),
        ours_medium_s=statistics.median(ours["medium"]),
        peer_s=statistics.median(theirs["highest"]) * n_tokens,
        peer_medium_s=statistics.median(theirs["medium"]) * n_tokens,
        peer_requests=len(expected),
        floor_s=floor_operations(model, n_distinct, n_rows) / (peak * 1e9),
        worst_per_token=float(np.abs(difference).max()),
        field_difference=float(abs(difference.mean())),
    )


def samples(workload: Workload, *, rounds: int, full: bool) -> Iterator[list[int]]:
    """Per round, the pairs of whole questions, spread evenly over their lengths; no question twice."""
    members: dict[int, list[int]] = {}
    for index, question in enumerate(workload.group):
        members.setdefault(question, []).append(index)
    size = {q: sum(len(workload.pairs[i].ids) - 1 for i in found) for q, found in members.items()}
    order = sorted(members, key=lambda question: size[question])
    stride = rounds if full else max(rounds, round(sum(size.values()) / PEER_TOKENS))
    for number in range(rounds):
        offset = (2 * number + 1) * stride // (2 * rounds)
        yield [index for question in order[offset::stride] for index in members[question]]


def our_score(model: Any, plan: PackPlan) -> npt.NDArray[np.float64]:
    return score(model, plan, progress=SilentProgress()).logprob


def steps(model: Any, workload: Workload, *, peak: float, rounds: int) -> dict[str, float]:
    """Seconds for the whole set (median), with one more of the engine's ideas at each step."""
    pairs = workload.pairs
    apart = PackPlan(unshared(pairs))
    shared = PackPlan(pairs)
    ways: dict[str, Callable[[], Any]] = {
        "head at response rows only": lambda: score_padded(model, pairs, batch_tokens=1, progress=SilentProgress()),
        "+ packing, no padding": lambda: score_by(model, apart, Recipe(narrow_last=False, plain_head=True)),
        "+ last layer at scored rows only": lambda: score_by(model, apart, Recipe(narrow_last=True, plain_head=True)),
        "+ prefix tree": lambda: score_by(model, shared, Recipe(narrow_last=True, plain_head=True)),
        "+ lean layers": lambda: our_score(model, shared),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for plan in (apart, shared):
        plan.packs(tokens=PACK_TOKENS["cpu"], rows=2**62)
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(cpu_seconds(way))
    return {name: statistics.median(found) for name, found in times.items()}


def unshared(pairs: Sequence[TokenPair]) -> Pairs:
    """The same lengths, but every pair begins with another id: nothing to share."""
    changed = []
    for index, pair in enumerate(pairs):
        ids = pair.ids.copy()
        ids[0] = index
        changed.append(replace(pair, ids=ids))
    return tuple(changed)


@torch.no_grad()
def score_by(model: Any, plan: PackPlan, recipe: Recipe) -> list[torch.Tensor]:
    """The engine with only as much of it as the recipe says."""
    found = []
    device = torch.device("cpu")
    with PackedModel(model, recipe).prepared() as packed, kept_memory(device):
        for pack in plan.packs(tokens=PACK_TOKENS["cpu"], rows=2**62):
            hidden, _ = packed(pack, device)
            entry_row, target = torch.from_numpy(pack.entry_row), torch.from_numpy(pack.target)
            found.append(blocked_logprob(packed.head, hidden, entry_row, target, greedy=False)[0])
    return found
