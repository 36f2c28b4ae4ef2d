"""The suites in suites.yaml: which benchmarks, by which metric, with how many examples. No lm-eval, no data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One benchmark.

    `metric` is lm-eval's "metric,filter"; `chance` its expected value for guesses; `also` other names of `task`.
    """

    name: str
    task: str
    metric: str
    num_fewshot: int
    chance: float | None
    also: tuple[str, ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every name under which lm-eval results may have it."""
        return (self.task, *self.also)


@cache
def suites() -> dict[str, tuple[Benchmark, ...]]:
    """Suite -> its benchmarks, in the table's order."""
    table = yaml.safe_load((FOLDER / "suites.yaml").read_text(encoding="utf-8"))
    return {
        suite: tuple(
            Benchmark(name=name, **{**row, "also": tuple(row.get("also", ()))}) for name, row in benchmarks.items()
        )
        for suite, benchmarks in table.items()
    }


def benchmark_of(task: str) -> Benchmark | None:
    """The benchmark that an lm-eval task belongs to; None where it is in no suite."""
    return next((b for benchmarks in suites().values() for b in benchmarks if task in b.tasks), None)
