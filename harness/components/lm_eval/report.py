"""One benchmark's result on one checkpoint as a measurement, with its breakdown and its questions one by one. No lm-eval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from harness.core.measurement import Measurement, Status, failed
from harness.reward_models.benchmarks import gold_scores
from harness.tasks.suites.build import Built, choice_metrics_of
from harness.tasks.suites.choices import CHOICE_METRICS
from harness.tasks.suites.identity import source
from harness.tasks.suites.scoring import TaskScores, stderr
from harness.tasks.suites.texts import taken


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkValue:
    """A benchmark's value by its metric ("acc,none"); None with a reason."""

    built: Built
    metric: str
    value: float | None
    stderr: float | None
    n_items: int
    n_scored: int
    reason: str | None
    detail: Mapping[str, JsonValue]

    @property
    def status(self) -> Status:
        """As in a Measurement."""
        if self.value is None:
            return "failed"
        return "ok" if self.n_scored == self.n_items else "partial"

    def measurement(self, metric: str) -> Measurement:
        """The benchmark as a component of its own."""
        better = self.built.higher_is_better(self.metric)
        if self.value is None:
            made = failed(metric, self.reason or "no value", n_items=self.n_items, higher_is_better=better)
            return made.model_copy(update={"detail": dict(self.detail)})
        return Measurement(
            metric=metric,
            higher_is_better=better,
            raw=self.value,
            stderr=self.stderr,
            n_items=self.n_items,
            n_scored=self.n_scored,
            status=self.status,
            reason=self.reason,
            detail=dict(self.detail),
        )

    def row(self) -> dict[str, JsonValue]:
        """The benchmark as a line of its suite's breakdown."""
        return {
            "value": self.value,
            "stderr": self.stderr,
            "n_items": self.n_items,
            "n_scored": self.n_scored,
            "status": self.status,
            "metric": self.metric,
            **self.detail,
        }


def report(
    built: Built, metric: str, scores: Mapping[str, TaskScores], results: Mapping[str, Mapping[str, Any]]
) -> BenchmarkValue:
    """A benchmark's result. A group has no value if one of its tasks has none: the mean over the others is another quantity."""
    mine = {name: scores[name] for name in built.tasks}
    name, _, filter_name = metric.partition(",")
    found = results[built.name]
    n_scored = sum(len(one.values.get(metric, {})) for one in mine.values())
    empty = [one.name for one in mine.values() if not one.values.get(metric)]
    value = None if empty else _number(found.get(metric))
    error = _number(found.get(f"{name}_stderr,{filter_name}"))
    if value is not None and error is None and built.group is None:
        (task,) = built.tasks.values()
        error = stderr(task, metric, mine[task.task_name].values[metric])
    return BenchmarkValue(
        built=built,
        metric=metric,
        value=value,
        stderr=error,
        n_items=built.n_items,
        n_scored=n_scored if value is not None else 0,
        reason=_reason(metric, mine, empty, value),
        detail=_detail(built, metric, mine, results),
    )


def _reason(metric: str, mine: Mapping[str, TaskScores], empty: Sequence[str], value: float | None) -> str | None:
    causes: dict[str, int] = {}
    for one in mine.values():
        for cause in one.failed.values():
            causes[cause] = causes.get(cause, 0) + 1
    n_failed = sum(causes.values())
    if n_failed:
        most = max(causes, key=lambda cause: causes[cause])
        n_docs = sum(len(one.docs) for one in mine.values())
        where = f" (none of {empty[0]} has one)" if empty and len(mine) > 1 else ""
        return f"{n_failed} of {n_docs} questions have no answer{where}: {most}"
    return _without_values(metric, mine) or ("the metric has no finite value" if value is None else None)


def _without_values(metric: str, mine: Mapping[str, TaskScores]) -> str | None:
    """Why some questions that were answered have no value."""
    n_docs = sum(len(one.docs) for one in mine.values())
    n = n_docs - sum(len(one.values.get(metric, {})) for one in mine.values())
    return f"{n} of {n_docs} questions have {_lacking(metric)}" if n else None


def _lacking(metric: str) -> str:
    """Why a question that was answered has no value."""
    why = ": it names no right choice, or no wrong one" if metric.removesuffix(",none") in CHOICE_METRICS else ""
    return f"no value by {metric.removesuffix(',none')}{why}"


def _detail(
    built: Built, metric: str, mine: Mapping[str, TaskScores], results: Mapping[str, Mapping[str, Any]]
) -> dict[str, JsonValue]:
    first = next(iter(built.tasks.values()))
    detail: dict[str, JsonValue] = {
        "task": built.name,
        "version": built.version,
        "num_fewshot": built.num_fewshot,
        "filter": metric.partition(",")[2],
        "data": source(first),
    }
    golds = [gold for one in mine.values() for gold in one.gold.values()]
    if golds:
        gold = gold_scores([g.nats for g in golds], [g.n_tokens for g in golds], [g.n_bytes for g in golds])
        detail |= {
            "bits_per_byte": gold.bits_per_byte,
            "bits_per_byte_stderr": gold.bits_per_byte_stderr,
            "gold_logprob_per_token": gold.logprob_per_token,
        }
    error_key = "_stderr,".join(metric.split(",", 1))
    numbers = {key: n for key, v in results[built.name].items() if "," in key and (n := _number(v)) is not None}
    choices = [key.removesuffix(",none") for key in choice_metrics_of(built)]
    if found := {name: numbers[f"{name},none"] for name in choices if f"{name},none" in numbers}:
        detail["choices"] = dict(found)
    hidden = {metric, error_key, *(f"{name}{error},none" for name in choices for error in ("", "_stderr"))}
    if others := {key: number for key, number in numbers.items() if key not in hidden}:
        detail["metrics"] = dict(others)
    if built.group is not None:
        detail["tasks"] = {
            name: {"value": _number(results[name].get(metric)), "n_scored": len(one.values.get(metric, {}))}
            for name, one in mine.items()
        }
    n_failed = sum(len(one.failed) for one in mine.values())
    if n_failed:
        detail["n_failed"] = n_failed
    return detail


def items_of(
    built: Sequence[Built], metrics: Mapping[str, str], scores: Mapping[str, TaskScores]
) -> dict[str, list[Any]]:
    """One row per question: its task, its place in the data, its value, the right answer's likelihood, what was written or
    which choice was taken, and for people what was asked and what is right."""
    scored = ("id", "task", "status", "value", "gold_logprob", "gold_n_tokens", "gold_n_bytes")
    keys = (*scored, "answer", "reason", "prompt", "target")
    columns: dict[str, list[Any]] = {key: [] for key in keys}
    for one in built:
        for name in one.tasks:
            for doc in scores[name].docs:
                gold = scores[name].gold.get(doc)
                value = scores[name].values.get(metrics[one.name], {}).get(doc)
                lost = scores[name].failed.get(doc) or (None if value is not None else _lacking(metrics[one.name]))
                asked = scores[name].questions.get(doc)
                nats = scores[name].nats.get(doc)
                choice = taken(metrics[one.name], asked.choices, nats) if asked and nats else None
                row = (
                    f"{name}/{doc}",
                    name,
                    "failed" if lost else "ok",
                    _number(value),
                    gold.nats if gold else None,
                    gold.n_tokens if gold else None,
                    gold.n_bytes if gold else None,
                    scores[name].texts.get(doc, choice),
                    lost,
                    asked.prompt if asked else None,
                    asked.target if asked else None,
                )
                for key, entry in zip(keys, row, strict=True):
                    columns[key].append(entry)
    return {key: column for key, column in columns.items() if any(entry is not None for entry in column)}


def _number(value: Any) -> float | None:
    """A finite number, or None: lm-eval writes "N/A" where there is none."""
    if isinstance(value, str | bytes | tuple | list) or value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None
