"""Run folders for tests: a feed and the Parquet files of items that its vectors name, from arrays of values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from samples import measurement, provenance
from samples import write as write_feed

from harness.core.component import ComponentConfig
from harness.core.measurement import Measurement, failed
from harness.core.vector import CheckpointRecord, Mixture, RewardVector
from harness.reward_models.statistics import clustered_mean
from harness.reward_models.vector import Standardization, build_vector


@dataclass(frozen=True, kw_only=True)
class Values:
    """A component's values by item; None: not scored. `task_ids`: simulations, an id per row, trials counted within it."""

    values: Sequence[float | None]
    kind: str = "lm_eval"
    role: str = "target"
    metric: str = "acc"
    higher_is_better: bool = True
    weight: float = 0.5
    task_ids: Sequence[str] | None = None
    members: int | None = None
    """Tasks of a group that the items are of, by turns."""
    definition: str = "sha256:1"

    @property
    def column(self) -> str:
        return {"logprob": "logprob_per_token", "tau2": "reward"}.get(self.kind, "value")

    def table(self) -> dict[str, list[Any]]:
        if self.task_ids is None:
            of = [f"t{i % self.members}" if self.members else "t" for i in range(len(self.values))]
            table = {"id": [f"{task}/{i}" for i, task in enumerate(of)], self.column: list(self.values)}
            return {**table, "task": of} if self.members else table
        seen: dict[str, int] = {}
        ids = []
        for task in self.task_ids:
            seen[task] = seen.get(task, -1) + 1
            ids.append(f"{task}-{seen[task]}")
        return {"id": ids, "task_id": list(self.task_ids), self.column: list(self.values)}

    def measured(self, items: str | None) -> Measurement:
        scored = [
            (v, c) for v, c in zip(self.values, self.task_ids or range(len(self.values)), strict=True) if v is not None
        ]
        if not scored:
            return failed(self.metric, "the server did not answer", n_items=len(self.values))
        mean = clustered_mean([v for v, _ in scored], [c for _, c in scored])
        whole = len(scored) == len(self.values)
        return measurement(
            mean.mean,
            mean.stderr,
            metric=self.metric,
            higher_is_better=self.higher_is_better,
            n_items=len(self.values),
            n_scored=len(scored),
            status="ok" if whole else "partial",
            reason=None if whole else "some were not answered",
            detail={
                **({"items": items} if items else {}),
                **({"tasks": {f"t{i}": None for i in range(self.members)}} if self.members else {}),
            },
        )


def write_run(
    folder: Path,
    trajectories: Mapping[str, Mapping[int | None, Mapping[str, Values]]],
    *,
    items: bool = True,
    tokenizer: str | None = "sha256:tokenizer",
    mixtures: Mapping[str, Mapping[str, float]] | None = None,
) -> Path:
    """A folder with a feed of these checkpoints; without `items` the feed alone."""
    vectors: list[RewardVector] = []
    for trajectory, steps in trajectories.items():
        history: list[RewardVector] = []
        for step, components in steps.items():
            measured = {}
            for name, one in components.items():
                where = f"items/{trajectory}-{step}/{name}.parquet" if items else None
                if where is not None:
                    (folder / where).parent.mkdir(parents=True, exist_ok=True)
                    pq.write_table(pa.table(one.table()), folder / where)
                measured[name] = one.measured(where)
            mixture = (mixtures or {}).get(trajectory)
            made = build_vector(
                run="test",
                trajectory=trajectory,
                step=step,
                checkpoint=CheckpointRecord(
                    path=f"{trajectory}/{step}",
                    kind="full",
                    fingerprint=f"sha256:{folder.name}/{trajectory}/{step}",
                    tokenizer=tokenizer,
                ),
                mixture=None if mixture is None else Mixture.parse(mixture),
                variables={},
                configs=[ComponentConfig(name=n, kind=c.kind, role=c.role) for n, c in components.items()],  # type: ignore[arg-type]
                weights=[one.weight for one in components.values()],
                measurements=list(measured.values()),
                standardization=Standardization(mode="running"),
                history=history,
                provenance=provenance({name: one.definition for name, one in components.items()}),
            )
            history.append(made)
            vectors.append(made)
    folder.mkdir(parents=True, exist_ok=True)
    write_feed(vectors, folder / "rewards.jsonl")
    return folder


def fields(seed: int, *, n: int = 200, code: float = 0.0, prose: float = 0.0, noise: float = 0.1) -> dict[str, Values]:
    """Two log-prob fields on the same pairs for every seed of the noise: item sd 1, and what a checkpoint adds."""
    hard = np.random.default_rng(0).normal(size=(2, n)) - 3
    left = np.random.default_rng(seed + 1).normal(scale=noise, size=(2, n))
    code_values, prose_values = hard + left + np.array([[code], [prose]])
    shared: dict[str, Any] = {"kind": "logprob", "metric": "logprob_per_token"}
    return {
        "code": Values(values=code_values.tolist(), role="target", **shared),
        "prose": Values(values=prose_values.tolist(), role="source", **shared),
    }
