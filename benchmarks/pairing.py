"""What pairing costs: the changes, errors, reliabilities and alarms that a vector's items are read and compared for.

    python benchmarks/pairing.py                 # the sweep of sweep.py (20 checkpoints), and a trajectory of 80 steps

CPU seconds, medians, one thread. *A sweep*: every vector assembled with its items and without, beside what its checkpoint took
in the sweep itself; items are read from disk, which a sweep has in memory, so this is an upper bound. *A command*: one more step
of a trajectory of 80 (three sources of 1,531 pairs), in a fresh process that has imported what `harness score` has, with and
without items; the difference is what a command pays, first imports and first reads included.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from harness import read_feed
from harness.checkpoints.find import find_checkpoints
from harness.core.vector import RewardVector
from harness.reward_models.history import History
from harness.run.items import RunItems
from harness.run.pipeline import run
from harness.run.update import update
from harness.run.vectors import again, rebuilt
from harness.spec.prepared import prepare
from harness.spec.spec import default_spec, override

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parent))

from run_folders import Values, write_run
from sweep import _Stopwatch, make_checkpoints

STEPS, PAIRS, SOURCES = 80, 1531, 3
REPEATS = 9


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def sweep(n_checkpoints: int) -> tuple[float, float]:
    """(what a further checkpoint of a sweep takes, what pairing takes of it)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_checkpoints(folder / "run", n_checkpoints)
        watch = _Stopwatch()
        prepared = prepare(override(default_spec(), device="cpu"))
        vectors = list(run(prepared, find_checkpoints([str(folder / "run")]), out=folder / "out", observer=watch).feed)
        each = statistics.median(b - a for a, b in zip(watch.at[1:-1], watch.at[2:], strict=True))
        paired = [cpu(lambda: rebuilt(vectors, RunItems(folder / "out"))) for _ in range(REPEATS)]
        alone = [cpu(lambda: rebuilt(vectors, RunItems(None))) for _ in range(REPEATS)]
    return each, (statistics.median(paired) - statistics.median(alone)) / n_checkpoints


def write_trajectory(folder: Path) -> None:
    """A run of STEPS steps, as `harness score` leaves it."""
    rng = np.random.default_rng(0)
    hard = rng.normal(size=(SOURCES, PAIRS)) - 3
    steps: dict[int | None, dict[str, Values]] = {}
    for step in range(STEPS):
        values = hard + 0.1 * rng.normal(size=hard.shape)
        steps[step] = {
            f"field_{index}": Values(
                values=row.tolist(), kind="logprob", metric="logprob_per_token", role="source", weight=1 / SOURCES
            )
            for index, row in enumerate(values)
        }
    write_run(folder, {"training": steps})
    (folder / "run.json").write_text("{}")
    update(folder)  # with the residuals that a run keeps


def one_more(folder: Path, *, paired: bool) -> float:
    """CPU seconds to assemble the last vector of a feed, first thing in a process."""
    import pyarrow.parquet  # noqa: F401 - a command writes Parquet anyway

    vectors: list[RewardVector] = list(read_feed(folder))
    history = History(vectors[:-1])
    items = RunItems(folder if paired else None)
    return cpu(lambda: again(vectors[-1], history, items))


def command(folder: Path, *, paired: bool) -> float:
    """The same in a fresh process."""
    mode = "paired" if paired else "alone"
    done = subprocess.run(
        [sys.executable, __file__, "--one", mode, "--folder", str(folder)], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, default=20, help="of the sweep")
    parser.add_argument("--one", choices=("paired", "alone"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(one_more(asked.folder, paired=asked.one == "paired"))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "out"
        write_trajectory(folder)
        with_items = [command(folder, paired=True) for _ in range(REPEATS)]
        without = [command(folder, paired=False) for _ in range(REPEATS)]
    more = statistics.median(with_items) - statistics.median(without)
    each, pairing = sweep(asked.checkpoints)
    print("| pairing | CPU |")
    print("|---|---|")
    print(f"| a further checkpoint of a sweep, 2 x 128 pairs | {each * 1000:.0f} ms |")
    print(f"| of which pairing (at most) | {pairing * 1000:.1f} ms, {100 * pairing / each:.2f}% |")
    print(f"| one more step of {STEPS}, {SOURCES} sources of {PAIRS:,} pairs, in a command | {more:.3f} s |")


if __name__ == "__main__":
    main()
