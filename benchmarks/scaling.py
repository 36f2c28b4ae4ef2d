"""What a driver costs beside many workers, and what many workers bring on this machine.

    python benchmarks/scaling.py                                  # 1,000 checkpoints on 16 workers that measure 20 s each
    python benchmarks/scaling.py --checkpoints 27266 --workers 64 --seconds 60
    python benchmarks/scaling.py --real 8                         # eight real checkpoints, in this process and on two workers

The first two run the real driver, ledger, items and feed over real folders; measuring alone is simulated, in virtual time: the clock
jumps over what nobody works at, so what the driver itself takes is all that a worker waits for. Queueing is a worker's time between
the end of a job and the start of its next, as a share of all its time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from harness.checkpoints.find import find_checkpoints
from harness.checkpoints.open import Opener
from harness.core.component import SilentProgress
from harness.run.executors.executor import Ended, Event, Job, Measured
from harness.run.executors.local import Local, Measuring
from harness.run.executors.pool import Pool, Worker
from harness.run.ledger import Entry, entry_key
from harness.run.pipeline import run
from harness.spec.prepared import Prepared, prepare
from harness.spec.spec import parse_spec

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import tiny

N_ITEMS = 64
STEPS = 80
"""Checkpoints of a trajectory, as the paper has them."""


class Clock:
    """Seconds since it was made, without those that were skipped."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._skipped = 0.0

    def now(self) -> float:
        return time.monotonic() - self._start + self._skipped

    def skip_to(self, when: float) -> None:
        self._skipped += max(0.0, when - self.now())


@dataclass
class _Handle:
    events: deque[Event] = field(default_factory=deque)
    due: float = 0.0
    idle_since: float | None = None


class Simulated(Pool):
    """Workers that take their time and nothing else. `first`: entries that real measurements gave, by component."""

    name = "simulated"

    def __init__(self, prepared: Prepared, n: int, *, seconds: float, first: dict[str, Entry]) -> None:
        super().__init__(Measuring(prepared), n)
        self.prepared = prepared
        self.clock = Clock()
        self.queued = self.worked = 0.0
        self._seconds = seconds
        self._first = first
        self._dice = random.Random(0)

    def started(self, number: int) -> Worker:
        return Worker(number, _Handle())

    def send(self, worker: Worker, job: Any) -> None:
        now = self.clock.now()
        if worker.handle.idle_since is not None:
            self.queued += now - worker.handle.idle_since
        takes = self._seconds * self._dice.uniform(0.5, 1.5)
        self.worked += takes
        worker.handle.due = now + takes
        worker.handle.events = deque([*(self._measured(job, *place) for place in job.missing), Ended(job.number)])

    def _measured(self, job: Job, row: int, name: str) -> Measured:
        made = self._first[name]
        definition = self.prepared.rows[row].definitions[name]
        key = entry_key(job.record.fingerprint or "", job.record.tokenizer, definition)
        raw = (made.measurement.raw or 0.0) + self._dice.gauss(0, 0.1)
        return Measured(
            job.number,
            row,
            made.model_copy(update={"key": key, "measurement": made.measurement.model_copy(update={"raw": raw})}),
        )

    def ready(self, workers: Sequence[Worker], timeout_s: float | None) -> list[Worker]:
        if not workers:
            return []
        if timeout_s is None:
            self.clock.skip_to(min(worker.handle.due for worker in workers))
        return [worker for worker in workers if worker.handle.due <= self.clock.now()]

    def receive(self, worker: Worker) -> Event | None:
        event = worker.handle.events.popleft()
        if isinstance(event, Ended):
            worker.handle.idle_since = worker.handle.due
        return event

    def end(self, workers: Sequence[Worker]) -> None:
        pass


def spec(folder: Path) -> Prepared:
    """One small field."""
    (folder / "field.jsonl").write_text(
        "".join(f'{{"q": "What is {i} times {i}?", "r": " {i * i}"}}\n' for i in range(N_ITEMS)), encoding="utf-8"
    )
    component = {"name": "math", "kind": "logprob", "field": str(folder / "field.jsonl")}
    return prepare(parse_spec({"components": [component]}))


def folders(folder: Path, n: int) -> list[str]:
    """Trajectories of checkpoints that differ in their weights; all other files are links to one checkpoint's."""
    model = tiny.save(folder / "model", tiny.llama(0))
    for index in range(n):
        here = folder / "runs" / f"t{index // STEPS:04}" / f"checkpoint-{index % STEPS}"
        here.mkdir(parents=True)
        for path in Path(model).iterdir():
            if path.suffix != ".safetensors":
                os.link(path, here / path.name)
        save_file({"weight": torch.full((8,), float(index))}, here / "model.safetensors", metadata={"format": "pt"})
    return [str(path) for path in sorted((folder / "runs").iterdir())]


def simulate(folder: Path, n: int, workers: int, seconds: float) -> dict[str, float]:
    """What the driver took, per checkpoint and of the workers' time."""
    prepared = spec(folder)
    paths = folders(folder, n)
    first: dict[str, Entry] = {}
    real = find_checkpoints([str(folder / "model")])
    opener = Opener(prepared.spec.opening, log_folder=folder / "serve")
    local = Local(prepared, opener, SilentProgress())
    record = opener.identifier.identify(real[0])
    job = Job(
        number=0,
        checkpoint=real[0],
        record=record,
        identified=opener.identifier.identified(real[0]),
        missing=((0, "math"),),
    )
    for event in local.measured(job):
        if isinstance(event, Measured):
            first[event.entry.component] = event.entry
    found = find_checkpoints(paths)
    executor = Simulated(prepared, workers, seconds=seconds, first=first)
    before = resource.getrusage(resource.RUSAGE_SELF)
    run(prepared, found, out=folder / "out", executor=executor)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "checkpoints": n,
        "workers": workers,
        "seconds of a measurement": seconds,
        "driver, CPU ms per checkpoint": round(1000 * cpu / n, 1),
        "queueing, % of a worker's time": round(100 * executor.queued / (executor.queued + executor.worked), 2),
        "hours of the run": round(executor.clock.now() / 3600, 2),
        "hours if nothing queued": round(executor.worked / workers / 3600, 2),
        "driver's memory grew by MB": round((after.ru_maxrss - before.ru_maxrss) / 1024, 1),
        "feed, MB": round((folder / "out" / "rewards.jsonl").stat().st_size / 2**20, 1),
    }


def real(folder: Path, n: int, *, turns: int) -> dict[str, float]:
    """Wall seconds of `n` checkpoints of some 30M parameters by the command, one thread a process, on one and on two workers."""
    texts = (" ".join(str(i * k % 997) for k in range(60)) for i in range(1, 201))
    lines = (json.dumps({"q": f"Multiples of {i}:", "r": f" {text}"}) + "\n" for i, text in enumerate(texts, start=1))
    (folder / "field.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "spec.yaml").write_text(
        f"components: [{{name: math, kind: logprob, field: {folder / 'field.jsonl'}}}]\n", encoding="utf-8"
    )
    for index in range(n):
        tiny.save(
            folder / "runs" / f"checkpoint-{index}",
            tiny.llama(index, hidden_size=512, intermediate_size=1376, num_hidden_layers=8),
        )
    seconds: dict[str, list[float]] = {"1": [], "2": []}
    for turn in range(turns):
        for workers in ("1", "2") if turn % 2 else ("2", "1"):
            out = folder / f"out-{workers}-{turn}"
            command = ["score", str(folder / "runs"), "--spec", str(folder / "spec.yaml"), "--out", str(out), "--quiet"]
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "harness", *command, "--workers", workers],
                check=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.DEVNULL,
            )
            seconds[workers].append(time.perf_counter() - start)
    one, two = (statistics.median(seconds[workers]) for workers in ("1", "2"))
    return {
        "checkpoints": n,
        "s on one worker": round(one, 1),
        "s on two": round(two, 1),
        "speed-up": round(one / two, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20.0, help="that a worker measures a checkpoint, on average")
    parser.add_argument("--real", type=int, metavar="N", help="measure N real checkpoints instead")
    parser.add_argument(
        "--turns", type=int, default=3, help="of --real, each on one worker and on two; the median counts"
    )
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="scaling-"))
    try:
        if options.real:
            found = real(folder, options.real, turns=options.turns)
        else:
            found = simulate(folder, options.checkpoints, options.workers, options.seconds)
        print(json.dumps(found, indent=1))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
