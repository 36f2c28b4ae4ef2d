"""`harness compare` of two runs with 12 components and 60,000 items: CPU seconds, of the command whole and after its start.

    python benchmarks/compare.py                 # 60,000 items
    python benchmarks/compare.py --items 600000

Six log-prob fields, four benchmarks (one of them a group of ten tasks) and two tau2 domains of four trials, on one thread.
Medians. "After start" is the command without what `harness compare --help` takes.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from run_folders import Values, write_run

MAIN = "from harness.cli import main; main()"
DEVNULL = subprocess.DEVNULL


def components(n: int, seed: int) -> dict[str, Values]:
    """Twelve components that ask `n` items together."""
    each = n // 12
    hard, mine = np.random.default_rng(0), np.random.default_rng(seed + 1)
    made = {}
    for index in range(6):
        values = hard.normal(size=each) - 3 + 0.1 * mine.normal(size=each)
        role = "source" if index % 2 else "target"
        made[f"field_{index}"] = Values(
            values=values.tolist(), kind="logprob", metric="logprob_per_token", role=role, weight=1 / 12
        )
    for index in range(4):
        right = (hard.random(each) + 0.3 * mine.random(each) > 0.65).astype(float)
        made[f"benchmark_{index}"] = Values(values=right.tolist(), weight=1 / 12, members=10 if index == 0 else None)
    for index in range(2):
        right = (hard.random(each) + 0.3 * mine.random(each) > 0.65).astype(float)
        tasks = [str(item // 4) for item in range(each)]
        made[f"domain_{index}"] = Values(
            values=right.tolist(), kind="tau2", metric="reward", task_ids=tasks, weight=1 / 12
        )
    return made


def cpu(*arguments: str) -> float:
    """CPU seconds of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", MAIN, *arguments], check=True, stdout=DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=60_000)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="compare-") as place:
        runs = [
            str(write_run(Path(place) / name, {"sft": {100: components(options.items, seed)}}))
            for seed, name in enumerate(("before", "after"))
        ]
        start = statistics.median(cpu("compare", "--help") for _ in range(options.repeat))
        for form in ([], ["--json"]):
            whole = statistics.median(cpu("compare", *runs, *form) for _ in range(options.repeat))
            print(
                f"harness compare {' '.join(form):6} 12 components, {options.items:,} items: {whole:.2f} CPU s, "
                f"{whole - start:.2f} after start ({start:.2f})"
            )


if __name__ == "__main__":
    main()
