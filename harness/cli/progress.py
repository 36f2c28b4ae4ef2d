"""Progress of a run: a rich progress bar on a terminal, plain lines elsewhere. Writes to stderr."""

from __future__ import annotations

import time
from collections import Counter
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from harness.cli.table import alarm_words, summary_line
from harness.cli.visible import visible
from harness.core.checkpoint import Checkpoint
from harness.core.vector import ComponentRecord, RewardVector
from harness.run.observer import Observer

stderr = Console(stderr=True)


class QuietObserver(Observer):
    """Warnings and nothing else."""

    def warning(self, words: str) -> None:
        stderr.print(f"warning: {visible(words)}", markup=False, highlight=False, soft_wrap=True)


class PlainObserver(Observer):
    """One line per finished vector."""

    def __init__(self) -> None:
        self._done = self._tokens = self._items = self._all_items = 0
        self._total: int | None = None
        self._clock = 0.0

    def starting(self, *, checkpoints: int | None, vectors: int | None, items: int) -> None:
        self._total, self._all_items, self._clock = vectors, items, time.perf_counter()
        if checkpoints is not None:
            self.write(f"scoring {checkpoints} checkpoint(s), {items:,} items")

    def advance(self, *, items: int, tokens: int) -> None:
        self._items += items
        self._tokens += tokens

    def finished(self, vector: RewardVector, *, new: bool) -> None:
        self._done += 1
        seconds = time.perf_counter() - self._clock
        left = seconds * (self._all_items - self._items) / self._items if self._items else 0.0
        known = "" if self._total is None else f", {left:.0f} s left"
        pace = f"{self._tokens / seconds:,.0f} tokens/s{known}" if new else "was there before"
        place = f"[{self._done}]" if self._total is None else f"[{self._done}/{self._total}]"
        self.write(f"{place} {summary_line(vector)} ({pace})")
        for component in vector.components:
            if component.reason and new:
                self.write(f"  {component.name} {component.status}: {visible(component.reason)}")

    def alarm(self, vector: RewardVector, component: ComponentRecord) -> None:
        self.write(alarm_words(vector, component))

    def warning(self, words: str) -> None:
        self.write(f"warning: {visible(words)}")

    def write(self, text: str) -> None:
        """One line, unwrapped."""
        stderr.print(text, markup=False, highlight=False, soft_wrap=True)


class RichObserver(PlainObserver):
    """A bar over all items: done, tokens per second, failures, time left; a line above it per finished checkpoint.

    With several workers each has a bar of its own: its current checkpoint, items, number of checkpoints done.
    """

    def __init__(self, console: Console = stderr) -> None:
        super().__init__()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("items"),
            TextColumn("{task.fields[pace]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("reading", total=None, pace="")

        self._workers: dict[str, TaskID] = {}
        self._ended: Counter[str] = Counter()
        self._n_failed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def starting(self, *, checkpoints: int | None, vectors: int | None, items: int) -> None:
        self._bar.start()  # no earlier: what keeps a run from beginning is an error without a bar above it
        super().starting(checkpoints=checkpoints, vectors=vectors, items=items)
        self._bar.update(self._task, total=None if checkpoints is None else items)

    def opening(self, checkpoint: Checkpoint) -> None:
        if self._workers:
            return  # several are in hand
        step = "" if checkpoint.step is None else f" step {checkpoint.step}"
        self._bar.update(self._task, description=f"{checkpoint.trajectory}{step}")

    def advance(self, *, items: int, tokens: int) -> None:
        super().advance(items=items, tokens=tokens)
        seconds = time.perf_counter() - self._clock
        pace = f"{self._tokens / seconds:,.0f} tokens/s" if seconds else ""
        failed = f", {self._n_failed} failed" if self._n_failed else ""
        self._bar.update(self._task, advance=items, pace=f"{pace}{failed}".removeprefix(", "))

    def finished(self, vector: RewardVector, *, new: bool) -> None:
        self._n_failed += vector.status == "failed"
        super().finished(vector, new=new)

    def working(self, worker: str, checkpoint: Checkpoint | None, *, items: int) -> None:
        if worker not in self._workers:
            self._workers[worker] = self._bar.add_task(worker, total=None, pace="")
            self._bar.update(self._task, description="all")
        step = "" if checkpoint is None or checkpoint.step is None else f" step {checkpoint.step}"
        what = "idle" if checkpoint is None else f"{checkpoint.trajectory}{step}"
        self._ended[worker] += checkpoint is None
        pace = f"{self._ended[worker]} done"
        self._bar.reset(self._workers[worker], total=items, description=f"{worker}: {what}", pace=pace)

    def worked(self, worker: str, *, items: int, tokens: int) -> None:
        super().worked(worker, items=items, tokens=tokens)
        if worker in self._workers:
            self._bar.update(self._workers[worker], advance=items)

    def write(self, text: str) -> None:
        self._bar.print(text, markup=False, highlight=False, soft_wrap=True)
