"""Two simulated studies of data mixing, written as feeds: small models over mixtures, and large ones over the same mixtures.

No model is trained: scores are drawn with a known truth, so that one can see what `harness validate` makes of it.

    python examples/simulated_study.py --out results/study
    harness validate results/study/proxies --against results/study/targets --target coding -o results/study/weights.json

Three domains (code, prose, web). `coding`, the target, is a benchmark of 400 questions that follows the share of code.
`code`, a field, and `choices`, 200 questions, follow that share too: they steer. `web` follows the share of web: it moves, but says little of coding.
`quiz` are 100 questions that models of this size answer by chance: noise.
"""

from __future__ import annotations

import argparse
import math
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from harness.core.component import ComponentConfig
from harness.core.measurement import Measurement
from harness.core.vector import CheckpointRecord, Mixture, Provenance, RewardVector
from harness.reward_models.statistics import clustered_mean
from harness.reward_models.vector import Standardization, build_vector

Floats = npt.NDArray[np.float64]
DOMAINS = ("code", "prose", "web")
STEPS = 8
TOKENS = 1_000_000
"""Per step of a run."""


class Field(NamedTuple):
    """What is measured: how far it follows a domain's share (per share, in nats or logits), and its noise."""

    name: str
    n_items: int
    follows: str
    slope: float
    seed: float
    step: float
    answers: bool


PROXIES = (
    Field("code", 300, "code", 1.5, 0.06, 0.03, False),
    Field("choices", 200, "code", 2.0, 0.3, 0.1, True),
    Field("web", 300, "web", 1.5, 0.06, 0.03, False),
    Field("quiz", 100, "code", 0.0, 0.05, 0.02, True),
)
TARGETS = (Field("coding", 400, "code", 3.0, 0.15, 0.05, True),)


def study(
    folder: Path, fields: tuple[Field, ...], mixtures: Floats, repeats: list[int], rng: np.random.Generator
) -> None:
    """A feed with its items: `repeats[m]` runs of mixture m."""
    (folder / "items").mkdir(parents=True)
    hard = {field.name: rng.normal(size=field.n_items) for field in fields}
    vectors: list[RewardVector] = []
    for number, rho in enumerate(mixtures):
        taste = {field.name: 0.2 * rng.normal(size=field.n_items) for field in fields}
        for repeat in range(repeats[number]):
            run: list[RewardVector] = []
            luck = {field.name: field.seed * rng.normal() for field in fields}
            for step in range(1, STEPS + 1):
                place = f"mix-{number:02}-seed-{repeat}"
                found = {}
                for field in fields:
                    level = (
                        field.slope * rho[DOMAINS.index(field.follows)] + luck[field.name] + field.step * rng.normal()
                    )
                    level += 0.3 * math.log(step / STEPS)
                    noise = 0.1 * rng.normal(size=field.n_items)
                    values = hard[field.name] + taste[field.name] + level + noise
                    values = rng.random(field.n_items) < 1 / (1 + np.exp(1 - values)) if field.answers else values - 3
                    found[field.name] = measured(folder, f"{place}-{step}-{field.name}", values.astype(float), field)
                run.append(vector(place, step, rho, found, run))
            vectors += run
    lines = "".join(one.to_line() + "\n" for one in vectors)
    (folder / "rewards.jsonl").write_text(lines, encoding="utf-8")


def measured(folder: Path, name: str, values: Floats, field: Field) -> Measurement:
    """A measurement with its table of items."""
    path = f"items/{name}.parquet"
    ids = [str(index) for index in range(field.n_items)]
    pq.write_table(pa.table({"id": ids, "value": values}), folder / path)
    mean = clustered_mean(values, ids)
    return Measurement(
        metric="acc" if field.answers else "logprob_per_token",
        raw=mean.mean,
        stderr=mean.stderr,
        n_items=field.n_items,
        n_scored=field.n_items,
        status="ok",
        detail={"items": path},
    )


def vector(
    place: str, step: int, rho: Floats, found: dict[str, Measurement], before: list[RewardVector]
) -> RewardVector:
    """The vector of one checkpoint, as a run would assemble it."""
    return build_vector(
        run="simulated",
        trajectory=place,
        step=step,
        checkpoint=CheckpointRecord(path=f"{place}/checkpoint-{step}", kind="full", tokens_seen=step * TOKENS),
        mixture=Mixture(domains=list(DOMAINS), weights=[round(float(share), 4) for share in rho]),
        variables={},
        configs=[ComponentConfig(name=name, kind="simulated") for name in found],
        weights=[1 / len(found)] * len(found),
        measurements=list(found.values()),
        standardization=Standardization(mode="running"),
        history=before,
        provenance=Provenance(
            harness="simulated",
            spec="simulated",
            engine=None,
            dtype=None,
            device=None,
            packages={},
            tasks={name: {"definition": name} for name in found},
            seed=0,
            started="2026-01-01T00:00:00+00:00",
            seconds=0.0,
        ),
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/study"))
    parser.add_argument("--mixtures", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    shutil.rmtree(options.out, ignore_errors=True)
    mixtures = rng.dirichlet([1.0] * len(DOMAINS), size=options.mixtures)
    study(options.out / "proxies", PROXIES, mixtures, [2] * options.mixtures, rng)
    study(options.out / "targets", TARGETS, mixtures, [1 + (m < 4) for m in range(options.mixtures)], rng)
    print(f"{options.out / 'proxies'} and {options.out / 'targets'}: simulated, no model was trained")


if __name__ == "__main__":
    main()
