"""Inspect's log as a measurement, with a row for every sample. The metrics are computed by Inspect over the samples that count.

`answers.py` decides which count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from harness.components.inspect.answers import NO_SCORE, OPEN, SHOWN, Answer, answers_of, count, thought_alone
from harness.components.inspect.config import InspectConfig
from harness.components.inspect.run import Ran
from harness.components.inspect.task import Built
from harness.core.measurement import Measurement, failed
from harness.reward_models.statistics import clustered_mean

ERRORS = ("stderr", "std", "var", "bootstrap_stderr")
"""Suffixes of metrics that measure spread and are not taken as the value."""
NO_NUMBER = "its score is no number"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskValue:
    """A component's value on one checkpoint and its rows."""

    measurement: Measurement
    items: Mapping[str, Sequence[Any]]
    n_open: int


def report(config: InspectConfig, built: Built, ran: Ran, *, metric: str) -> TaskValue:
    """The measurement of a run. Changes the scores in `ran.log` that do not count."""
    answers = answers_of(built, ran)
    count(config, built, ran.log, answers)
    score, label, problem = _find(config, ran.log, metric)
    values = _values(ran.log, score)
    rows = _rows(config, built, answers, values, unscored=problem or NO_NUMBER)
    causes: dict[str, JsonValue] = {}
    for answer in answers:
        if answer.cause is not None:
            causes[answer.cause] = int(str(causes.get(answer.cause, 0))) + 1
    limits: dict[str, JsonValue] = {}
    for answer in answers:
        if answer.limit is not None:
            limits[answer.limit] = int(str(limits.get(answer.limit, 0))) + 1
    n_open = sum(answer.cause in OPEN and answer.reason != NO_SCORE for answer in answers)
    n_scored = sum(status != "failed" for status in rows["status"])
    raw = None if score is None or n_scored == 0 else _number(score.metrics[label].value)
    if unscored := sum(row == NO_NUMBER for row in rows["reason"]):
        causes["scorer"] = int(str(causes.get("scorer", 0))) + unscored
    reason = _reason(answers, n_items=built.n_items * built.epochs) or problem
    if unscored and reason is None:
        reason = f"{unscored} of {built.n_items} samples have a score that is no number"
    detail: dict[str, JsonValue] = {
        "task": built.name,
        "version": str(built.task.version),
        "epochs": built.epochs,
        "metrics": _metrics(ran.log),
        "tokens": sum(rows["tokens"]),
        **({"causes": causes} if causes else {}),
        **({"limits": limits} if limits else {}),
        **({"thoughts_alone": alone} if (alone := sum(map(thought_alone, answers))) else {}),
        **({"package": " ".join(built.package)} if built.package else {}),
        **({"roles": {name: chat.model for name, chat in config.roles.items()}} if config.roles else {}),
    }
    if raw is None:
        made = failed(
            metric,
            reason or "the metric has no finite value",
            n_items=built.n_items,
            higher_is_better=config.higher_is_better,
        ).model_copy(update={"detail": detail})
        return TaskValue(measurement=made, items=rows, n_open=n_open)
    stderr, n_clusters = _error(rows, raw)
    if stderr is None and score is not None and score.metrics[label].group is None:
        stderr = next((_number(one.value) for name, one in score.metrics.items() if name.endswith(ERRORS[0])), None)
    measurement = Measurement(
        metric=metric,
        higher_is_better=config.higher_is_better,
        raw=raw,
        stderr=stderr,
        n_items=built.n_items,
        n_scored=n_scored,
        n_clusters=n_clusters,
        status="ok" if n_scored == built.n_items and not n_open else "partial",
        reason=reason,
        detail=detail,
    )
    return TaskValue(measurement=measurement, items=rows, n_open=n_open)


def metric_names(task: Any, config: InspectConfig) -> str:
    """The name of the value, determined before the run: the configured metric, else the first of the scorer, else "value"."""
    if config.metric is not None:
        return config.metric
    from inspect_ai._eval.task.results import ScorerInfo
    from inspect_ai._util.registry import registry_info

    known = [ScorerInfo.from_scorer(one) for one in task.scorer or ()]
    for info in known:
        if config.scorer in (None, info.name):
            found = task.metrics or info.metrics
            first = next(iter(found), None) if isinstance(found, list) else None
            if first is not None and not isinstance(first, dict):
                return str(registry_info(first).name.rpartition("/")[2])
    return "value"


def _find(config: InspectConfig, log: Any, metric: str) -> tuple[Any, str, str | None]:
    """The score and the metric in it that are the value, or why there is none."""
    scores = list(log.results.scores) if log.results else []
    named, _, wanted = (config.metric or "").rpartition("/")
    scorer = config.scorer or named or None
    fitting = [one for one in scores if scorer is None or scorer in (one.name, one.scorer)]
    if config.reducer is not None:
        fitting = [one for one in fitting if one.reducer in (None, config.reducer)] or fitting
    for one in fitting:
        for name, found in one.metrics.items():
            if wanted and name == wanted:
                return one, name, None
            if not wanted and not name.endswith(ERRORS):
                whole = str((found.params or {}).get("all_label", "all"))  # of a metric by groups, that of all
                same = found.group is not None and whole in one.metrics and one.metrics[whole].group == found.group
                return one, whole if same else name, None
    if not scores:
        return None, "", None
    known = ", ".join(f"{one.name}/{name}" for one in scores for name in one.metrics)
    return (
        None,
        "",
        f"the task has no metric {config.scorer or ''}{'/' if config.scorer else ''}{config.metric or metric}; it has {known}",
    )


def _values(log: Any, score: Any) -> dict[str, float | None]:
    """Each scored sample's value by Inspect's own reduction over its epochs; None where its score is no single number.

    A metric of every epoch's score, not of samples', has the mean of its sample's epochs.
    """
    if score is None:
        return {}
    for reduction in log.reductions or ():
        if reduction.scorer in (score.scorer, score.name) and reduction.reducer == score.reducer:
            found = {str(one.sample_id): _value(one.value, score) for one in reduction.samples}
            return {name: value for name, value in found.items() if value is None or math.isfinite(value)}
    listed: dict[str, list[float | None]] = {}
    for sample in log.samples or ():
        if (one := (sample.scores or {}).get(score.scorer)) is not None:
            value = _value(one.value, score)
            if value is None or math.isfinite(value):
                listed.setdefault(str(sample.id), []).append(value)
    means: dict[str, float | None] = {}
    for name, some in listed.items():
        numbers = [value for value in some if value is not None]
        means[name] = math.fsum(numbers) / len(numbers) if len(numbers) == len(some) else None
    return means


def _value(value: Any, score: Any) -> float | None:
    """A score as a number, NaN where there is none; None for a mapping or list that a metric takes as a whole."""
    from inspect_ai.scorer import value_to_float

    if isinstance(value, Mapping) and score.name != score.scorer:
        value = value.get(score.name)
    if value is None:
        return math.nan
    return None if isinstance(value, Mapping | list) else value_to_float()(value)


def _rows(
    config: InspectConfig,
    built: Built,
    answers: Sequence[Answer],
    values: Mapping[str, float | None],
    *,
    unscored: str,
) -> dict[str, list[Any]]:
    """`unscored`: why a sample whose answers are all there has no value."""
    keys = (
        "id",
        "value",
        "status",
        "cause",
        "reason",
        "limit",
        "n_answers",
        "tokens",
        "seconds",
        "turns",
        "answer",
        "target",
    )
    columns: dict[str, list[Any]] = {key: [] for key in (*keys, *(("cluster",) if config.cluster else ()))}
    for number, sample in enumerate(built.samples):
        mine = answers[number * built.epochs : (number + 1) * built.epochs]
        logs = [one.sample for one in mine if one.sample is not None]
        scored = str(sample.id) in values
        bad = next((one for one in mine if one.cause is not None), None)
        row = {
            "id": str(sample.id),
            "value": values.get(str(sample.id)),
            "status": "failed" if not scored else "partial" if any(one.cause in OPEN for one in mine) else "ok",
            "cause": bad.cause if bad else None if scored else "scorer",
            "reason": bad.reason if bad else None if scored else unscored,
            "limit": next((one.limit for one in mine if one.limit is not None), None),
            "n_answers": sum(one.cause not in OPEN for one in mine),
            "tokens": sum(usage.total_tokens for one in logs for usage in one.model_usage.values()),
            "seconds": sum(one.total_time or 0.0 for one in logs),
            "turns": sum(one.turn_count or 0 for one in logs),
            "answer": logs[0].output.completion[:SHOWN] if logs else None,
            "target": _text(sample.target)[:SHOWN],
        }
        if config.cluster:
            row["cluster"] = str((sample.metadata or {}).get(config.cluster))
        for key, column in columns.items():
            column.append(row[key])
    return columns


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ", ".join(map(str, value))


def _error(rows: Mapping[str, Sequence[Any]], raw: float) -> tuple[float | None, int | None]:
    """The standard error by clusters where the value is the mean of the samples' values, and how many clusters there are."""
    scored = [number for number, value in enumerate(rows["value"]) if value is not None]
    if not scored:
        return None, None
    names = rows.get("cluster", rows["id"])
    clusters = [names[number] for number in scored]
    mean = clustered_mean([rows["value"][number] for number in scored], clusters)
    if not math.isclose(mean.mean, raw, rel_tol=1e-9, abs_tol=1e-12):
        return None, None
    return mean.stderr, len(set(clusters))


def _reason(answers: Sequence[Answer], *, n_items: int) -> str | None:
    """A message with the number of failed answers by cause, and the first reason of each."""
    words = []
    for cause in (*OPEN, "context"):
        mine = [answer for answer in answers if answer.cause == cause]
        if mine:
            how = ", scored 0" if cause == "context" else ""
            words.append(f"{len(mine)} of {n_items} ended by {cause}{how}: {mine[0].reason}")
    return "; ".join(words) or None


def _metrics(log: Any) -> dict[str, JsonValue]:
    """Every metric that Inspect computed, as SCORER/METRIC, with the reducer where there are several."""
    found: dict[str, JsonValue] = {}
    for one in log.results.scores if log.results else ():
        for name, metric in one.metrics.items():
            key = f"{one.name}/{name}"
            found[key if key not in found else f"{key} ({one.reducer})"] = _number(metric.value)
    return found


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
