"""Progress of a tau2 run: a bar on a terminal, a line every few seconds elsewhere. Writes to stderr."""

from __future__ import annotations

import time
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from harness.cli.progress import stderr
from harness.cli.visible import plain
from harness.reward_models.statistics import clustered_mean
from harness.reward_models.tau2.result import Result
from harness.tau2.runs.observer import RunObserver

LINE_EVERY_S = 5.0
LOOK_EVERY_S = 0.5
INTERVAL = 1.96
"""Standard errors on each side: 95%."""


class PlainRun(RunObserver):
    """A line every few seconds, and one for each simulation that could not be finished."""

    def __init__(self) -> None:
        self._rewards: list[float] = []
        self._tasks: list[str] = []
        self._total = self._known = self._done = self._running = self._unfinished = self._asked = 0
        self._clock = self._shown = time.perf_counter()

    def starting(self, *, total: int, known: list[Result], concurrency: int) -> None:
        self._total, self._known = total, len(known)
        self._clock = self._shown = time.perf_counter()
        for result in known:
            self._score(result)
        before = f", {len(known)} finished before" if known else ""
        self.write(f"{total} simulation(s){before}, {concurrency} at a time")

    def began(self) -> None:
        self._running += 1

    def asked(self) -> None:
        self._asked += 1

    def ended(self, result: Result) -> None:
        self._running -= 1
        self._done += 1
        self._score(result)
        if not result.finished:
            self._unfinished += 1
            if self._unfinished <= 10:
                why = result.reason or result.verdict.reason or ""
                self.write(plain(f"  {result.key.task_id} trial {result.key.trial}: {why}", 300).plain)
            elif self._unfinished == 11:
                self.write("  further ones like these are only counted")
        self.look()

    def look(self) -> None:
        """Show the state, at most every few seconds."""
        now = time.perf_counter()
        if now - self._shown >= LINE_EVERY_S:
            self._shown = now
            self.write(f"[{self._known + self._done}/{self._total}] {self.state()}")

    def state(self) -> str:
        """Running, reward so far with its 95% interval, requests per second, time left."""
        seconds = max(time.perf_counter() - self._clock, 1e-9)
        left = seconds * (self._total - self._known - self._done) / self._done if self._done else None
        parts = [f"{self._running} running", f"reward {self._interval()}", f"{self._asked / seconds:.1f} requests/s"]
        if left is not None:
            parts.append(f"{_duration(left)} left")
        if self._unfinished:
            parts.append(f"{self._unfinished} unfinished")
        return ", ".join(parts)

    def _interval(self) -> str:
        if not self._rewards:
            return "-"
        estimate = clustered_mean(self._rewards, self._tasks)
        if estimate.stderr is None:
            return f"{estimate.mean:.3f}"
        low = max(0.0, estimate.mean - INTERVAL * estimate.stderr)
        high = min(1.0, estimate.mean + INTERVAL * estimate.stderr)
        return f"{estimate.mean:.3f} [{low:.3f}, {high:.3f}]"

    def _score(self, result: Result) -> None:
        if result.verdict.reward is not None:
            self._rewards.append(result.verdict.reward)
            self._tasks.append(result.key.task_id)

    def write(self, text: str) -> None:
        """One line, unwrapped."""
        stderr.print(text, markup=False, highlight=False, soft_wrap=True)


class RichRun(PlainRun):
    """A bar with the same text next to it."""

    def __init__(self) -> None:
        super().__init__()
        self._bar = Progress(
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            console=stderr,
            transient=True,
            refresh_per_second=2,
        )
        self._task = self._bar.add_task("", total=None, state="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def starting(self, *, total: int, known: list[Result], concurrency: int) -> None:
        super().starting(total=total, known=known, concurrency=concurrency)
        self._bar.update(self._task, total=total, completed=len(known))

    def began(self) -> None:
        super().began()
        self.look()

    def asked(self) -> None:
        super().asked()
        self.look()

    def look(self) -> None:
        now = time.perf_counter()
        if now - self._shown >= LOOK_EVERY_S:
            self._shown = now
            self._bar.update(self._task, completed=self._known + self._done, state=self.state())

    def write(self, text: str) -> None:
        self._bar.print(text, markup=False, highlight=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
