"""Kills at random: a sweep on several workers, in which the driver or a worker is killed -9 again and again, ends as one that was left alone.

    python benchmarks/chaos.py --kills 200

Prints how many kills hit whom, how many runs were completed, and whether a vector or measurement was lost, stood twice or differed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import tiny

ROOT = Path(__file__).parents[1]
CHECKPOINTS = 6


def make(folder: Path) -> Path:
    """Checkpoints of one training, the last with the weights of the first, and a field."""
    for step in range(CHECKPOINTS):
        tiny.save(folder / "run" / f"checkpoint-{step}", tiny.llama(step % (CHECKPOINTS - 1)))
    field = folder / "field.jsonl"
    field.write_text("".join(f'{{"q": "a {i}", "r": " is {i * i}"}}\n' for i in range(40)))
    return field


def start(folder: Path, out: Path, workers: int) -> subprocess.Popen[bytes]:
    """A driver; the same command each time."""
    command = ["score", str(folder / "run"), "--field", str(folder / "field.jsonl"), "--out", str(out), "--quiet"]
    command += ["--workers", str(workers)] if workers else []
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *command], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def feed(out: Path) -> list[dict[str, Any]]:
    """The vectors, but for times."""
    vectors: list[dict[str, Any]] = [json.loads(line) for line in (out / "rewards.jsonl").read_text().splitlines()]
    for vector in vectors:
        vector["provenance"] |= {"started": "", "seconds": 0.0, "executor": ""}
    return vectors


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    dice = random.Random(arguments.seed)
    hit: Counter[str] = Counter()
    n_runs = n_other = n_twice = n_left = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        start(folder, folder / "alone", 0).wait()
        alone = feed(folder / "alone")
        while sum(hit.values()) < arguments.kills:
            out = folder / f"out-{n_runs}"
            while True:
                driver = start(folder, out, arguments.workers)
                end = time.monotonic() + dice.uniform(0.5, 25.0)
                while driver.poll() is None and time.monotonic() < end:
                    time.sleep(0.02)
                if driver.poll() is not None:
                    break
                victims = dict.fromkeys(tiny.workers_of(out), "worker") | {driver.pid: "driver"}
                victim = dice.choice(sorted(victims))
                try:
                    os.kill(victim, signal.SIGKILL)
                    hit[victims[victim]] += 1
                except ProcessLookupError:
                    continue
                if victims[victim] == "worker":
                    driver.wait()
                    break
                driver.wait()
                time.sleep(5)
                n_left += len(tiny.workers_of(out))
            n_runs += 1
            n_other += feed(out) != alone
            keys = [json.loads(line)["key"] for line in (out / "ledger.jsonl").read_text().splitlines()]
            n_twice += len(keys) - len(set(keys))
            shutil.rmtree(out)
            print(f"{sum(hit.values())} kills, {n_runs} runs", file=sys.stderr, flush=True)
    kills = ", ".join(f"{count} of a {who}" for who, count in sorted(hit.items()))
    print(
        f"{sum(hit.values())} kills ({kills}) over {n_runs} runs of {CHECKPOINTS} checkpoints on {arguments.workers} workers: "
        f"{n_other} feeds differ, {n_twice} measurements stand twice, {n_left} workers left 5 s after their driver"
    )


if __name__ == "__main__":
    main()
