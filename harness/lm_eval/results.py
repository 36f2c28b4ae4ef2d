"""lm-eval's own result files read as scores of benchmarks, one table per model. Knows the format, forms no average."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core.errors import DataError, why_unreadable
from harness.core.measurement import Measurement
from harness.lm_eval.model_args import Model, labels, model_of
from harness.tasks.suites.catalog import Benchmark, suites


@dataclass(slots=True)
class ModelResults:
    """One model's benchmarks by name, over all its files, and remarks about them."""

    label: str
    measurements: dict[str, Measurement] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Tasks that are no benchmark of the suites."""


def read_results(paths: Iterable[str | Path]) -> list[ModelResults]:
    """Every `results_*.json` among the paths and below folders among them; if a task is in two, the later counts.

    Raises DataError.
    """
    found = []
    for name, documents in documents_by_model(paths).items():
        model = ModelResults(name)
        for path, value in documents:
            _take(model, value, path)
        found.append(model)
    return found


def documents_by_model(paths: Iterable[str | Path]) -> dict[str, list[tuple[Path, dict[str, Any]]]]:
    """A model's label -> its result files as (path, content), by date. Raises DataError."""
    files = sorted(((p, _read(p)) for p in _files(paths)), key=lambda pair: (_date(pair[1]), str(pair[0])))
    told = [_model(value, path) for path, value in files]
    names = labels(list(dict.fromkeys(told)))
    models: dict[str, list[tuple[Path, dict[str, Any]]]] = {names[model]: [] for model in told}
    for model, document in zip(told, files, strict=True):
        models[names[model]].append(document)
    return models


def _files(paths: Iterable[str | Path]) -> list[Path]:
    found: list[Path] = []
    for given in map(Path, paths):
        if given.is_dir():
            below = sorted(given.rglob("results_*.json")) + sorted(given.rglob("results.json"))
            if not below:
                raise DataError(f"no results_*.json of lm-eval below {given}; run lm_eval with --output_path {given}")
            found += below
        else:
            found.append(given)
    return list(dict.fromkeys(found))


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"no results at {path}; name what lm_eval --output_path wrote, a folder or a results_*.json"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read {path}: {why_unreadable(error)}") from error
    if not isinstance(value, dict) or not isinstance(value.get("results"), dict):
        raise DataError(f"{path} is no result file of lm-eval: it has no `results`")
    return value


def _date(value: dict[str, Any]) -> float:
    date = value.get("date")
    return float(date) if isinstance(date, int | float) and math.isfinite(date) else 0.0


def _model(value: dict[str, Any], path: Path) -> Model:
    """The model by its arguments, else by lm-eval's name for it, else by the folder the file is in."""
    config = value.get("config")
    name = value.get("model_name")
    otherwise = name if isinstance(name, str) and name else path.parent.name or str(path)
    return model_of(config.get("model_args") if isinstance(config, dict) else None, otherwise)


def _take(model: ModelResults, value: dict[str, Any], path: Path) -> None:
    results: dict[str, Any] = value["results"]
    known: set[str] = set()
    for benchmark in (b for benchmarks in suites().values() for b in benchmarks):
        task = next((name for name in benchmark.tasks if isinstance(results.get(name), dict)), None)
        known |= set(benchmark.tasks)
        if task is None:
            continue
        made = _measurement(benchmark, task, value)
        if made is None:
            has = ", ".join(key for key in results[task] if "," in key and "_stderr," not in key) or "no metric"
            model.remarks.append(f"{benchmark.name}: {path} has {task} without {benchmark.metric} ({has})")
            continue
        if benchmark.name in model.measurements:
            model.remarks.append(f"{benchmark.name}: measured more than once; the later one, in {path}, counts")
        model.measurements[benchmark.name] = made
        if (impossible := _impossible(benchmark, task, value, made)) is not None:
            made = made.model_copy(update={"stderr": None})
            model.measurements[benchmark.name] = made
            model.remarks.append(
                f"{benchmark.name}: {impossible} in {path} cannot be; it is left out, and so is the averages' error"
            )
        shots = made.detail["num_fewshot"]
        if shots is not None and shots != benchmark.num_fewshot:
            model.remarks.append(
                f"{benchmark.name}: {shots} examples in {path}, where the paper has {benchmark.num_fewshot}"
            )
        if made.detail.get("limit"):
            model.remarks.append(
                f"{benchmark.name}: only a part of its questions (limit {made.detail['limit']}) in {path}"
            )
    model.others += [name for name in results if name not in known and name not in model.others]


def _measurement(benchmark: Benchmark, task: str, value: dict[str, Any]) -> Measurement | None:
    found = value["results"][task]
    metric, _, filter_name = benchmark.metric.partition(",")
    number = _number(found.get(benchmark.metric))
    if number is None:
        return None
    config = value.get("config") if isinstance(value.get("config"), dict) else {}
    assert isinstance(config, dict)
    n = _count(value, task, found)
    return Measurement(
        metric=benchmark.metric.removesuffix(",none"),
        raw=number,
        stderr=_error(found.get(f"{metric}_stderr,{filter_name}")),
        n_items=n,
        n_scored=n,
        status="ok",
        detail={
            "task": task,
            "version": _text(value, "versions", task),
            "num_fewshot": _shots(value, task),
            "limit": config.get("limit"),
            "chance": benchmark.chance,
            "lm_eval": value.get("lm_eval_version"),
        },
    )


def _error(found: Any) -> float | None:
    error = _number(found)
    return error if error is not None and error >= 0 else None


def _impossible(benchmark: Benchmark, task: str, value: dict[str, Any], made: Measurement) -> str | None:
    """A message about a standard error in the file that is impossible for its value and number of answers; None where it is possible.

    `N/A` is lm-eval's word for none. A share that is neither 0 nor 1 comes from answers that differ, so its error is above 0.
    n answers of share p spread by sqrt(p (1 - p) n / (n - 1)) at most, and their mean by that over sqrt(n); a group's error pools
    the spreads of its k tasks (0.5 at most) with n - k. A tenth is left for errors that were drawn by bootstrap.
    """
    metric, _, filter_name = benchmark.metric.partition(",")
    found = value["results"][task].get(f"{metric}_stderr,{filter_name}")
    if found is None or (isinstance(found, str) and found.strip().upper() in ("N/A", "")):
        return None
    words = f"the standard error {found!r}"
    if _error(found) is None:
        return words
    assert made.raw is not None
    if not 0 <= made.raw <= 1:
        return None
    tasks = len(_leaves(value, task))
    spread = 0.5 if tasks > 1 else math.sqrt(made.raw * (1 - made.raw))
    most = 1.1 * spread / math.sqrt(made.n_items - tasks) if made.n_items > tasks else math.inf
    if found > most:
        return f"{words} of the value {made.raw:g} over {made.n_items} questions"
    return f"{words} of the value {made.raw:g}" if found == 0 and made.raw not in (0, 1) else None


def _text(value: dict[str, Any], table: str, task: str) -> str | None:
    rows = value.get(table)
    return str(rows[task]) if isinstance(rows, dict) and task in rows else None


def _leaves(value: dict[str, Any], task: str, seen: Sequence[str] = ()) -> list[str]:
    """The tasks below a group, as the file names them."""
    below = value.get("group_subtasks")
    members = below.get(task) if isinstance(below, dict) else None
    if not members or task in seen:
        return [task]
    return [leaf for member in members for leaf in _leaves(value, str(member), (*seen, task))]


def _shots(value: dict[str, Any], task: str) -> int | None:
    rows = value.get("n-shot")
    if not isinstance(rows, dict):
        return None
    if isinstance(rows.get(task), int):
        return int(rows[task])
    found = {rows.get(leaf) for leaf in _leaves(value, task)}
    only = found.pop() if len(found) == 1 else None
    return only if isinstance(only, int) else None


def _count(value: dict[str, Any], task: str, found: dict[str, Any]) -> int:
    rows = value.get("n-samples")
    counts = []
    for leaf in _leaves(value, task):
        row = rows.get(leaf) if isinstance(rows, dict) else None
        if isinstance(row, dict) and isinstance(row.get("effective"), int):
            counts.append(int(row["effective"]))
    length = found.get("sample_len")
    return sum(counts) if counts else length if isinstance(length, int) else 0


def _number(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None
