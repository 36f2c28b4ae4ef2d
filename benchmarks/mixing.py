"""CPU time and memory of the mixing agent's own arithmetic at the paper's size: all trajectories, one mixture.

OMP_NUM_THREADS=1 python benchmarks/mixing.py
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.feed.feed import read_feed
from harness.mixing.agent import Agent
from harness.mixing.domains import Domains
from harness.mixing.sample import sample_trajectories
from harness.reward_models.reference import fit_reference

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from samples import vector, write

N, STEPS, TRAJECTORIES, CANDIDATES, COMPONENTS = 52, 80, 384, 20_000, ("general", "math", "code")


def sampling() -> dict[str, float]:
    """Algorithm 1."""
    names = [f"d{i}" for i in range(N)]
    space = Domains(sources=names[: N // 2], targets=names[N // 2 :])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clock = time.process_time()
    sample_trajectories(space, steps=STEPS, number=TRAJECTORIES, candidates=CANDIDATES)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"sampling, CPU s": round(time.process_time() - clock, 2), "sampling, MB more": round(grown)}


def deciding(folder: Path) -> dict[str, float]:
    """`harness mix next` after its imports: the feed of a whole trajectory read, the agent loaded, the next mixture said."""
    rng = np.random.default_rng(0)
    made: list[Any] = []
    for step in range(STEPS):
        mixture = {f"d{i}": float(share) for i, share in enumerate(rng.dirichlet(np.ones(N)))}
        raws = {name: float(rng.normal()) for name in COMPONENTS}
        made.append(vector(raws, step=step, trajectory="t", history=made, mixture=mixture))
    write(made, folder / "rewards.jsonl")
    Agent(list(made[0].mixture.domains), COMPONENTS, reference=fit_reference(made)).save(folder / "agent")
    taken = []
    for _ in range(5):
        clock = time.process_time()
        Agent.load(folder / "agent").next_of(read_feed(folder), "t")
        taken.append(time.process_time() - clock)
    return {"next, CPU s, the first time": round(taken[0], 3), "next, CPU s": round(min(taken), 3)}


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps({**sampling(), **deciding(Path(folder))}, indent=1))


if __name__ == "__main__":
    main()
