"""lm-eval's result folders as sides of a comparison: every task and metric with its questions, where samples were logged.

Knows the format of `results_*.json` and of the `samples_*.jsonl` beside it; forms no difference.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from harness.core.errors import DataError
from harness.core.measurement import Measurement
from harness.lm_eval.results import documents_by_model
from harness.reward_models.items import MEMBER, Items, NoItems, scored_items
from harness.reward_models.side import Coordinate

MEANING = (
    *("output_type", "doc_to_text", "doc_to_target", "doc_to_choice", "description", "fewshot_delimiter"),
    *("target_delimiter", "process_docs", "process_results", "generation_kwargs", "filter_list", "repeats"),
    *("dataset_name", "test_split", "validation_split", "should_decontaminate", "unsafe_code"),
)
"""Keys of a task's configuration that decide what is asked and how it is judged (not where the data is stored)."""
ABOUT = ("chat_template_sha", "system_instruction_sha", "fewshot_as_multiturn", "lm_eval_version")
"""Keys of a result file that a comparison remarks on."""
LOWER_IS_BETTER = ("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "ter", "wer", "brier_score")
"""Metrics that are better when lower, for files that do not say which way is better."""
NO_ANSWER = "no number per question"
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(slots=True)
class ModelSamples:
    """One model's components, named `TASK/METRIC` (with `,FILTER` where there is one); if one was measured twice, the later counts."""

    label: str
    coordinates: dict[str, Coordinate] = field(default_factory=dict)
    about: dict[str, JsonValue] = field(default_factory=dict)


def read_models(path: Path) -> list[ModelSamples]:
    """Every model of the result files at or below a path. Raises DataError."""
    found = []
    for label, documents in documents_by_model([path]).items():
        model = ModelSamples(label)
        for where, value in documents:
            model.about |= {key: value[key] for key in ABOUT if value.get(key) is not None}
            for coordinate in _coordinates(value, where):
                model.coordinates[coordinate.name] = coordinate
        if not model.coordinates:
            raise DataError(f"{documents[-1][0]} has no value of any task")
        found.append(model)
    return found


def _coordinates(value: dict[str, Any], path: Path) -> Iterator[Coordinate]:
    samples = _Samples(path)
    for task in value["results"]:
        for key in _metrics(value, task):
            if not _averaged(value, task, key):
                yield _coordinate(value, task, key, samples)


def _averaged(value: dict[str, Any], task: str, key: str, seen: Sequence[str] = ()) -> bool:
    """Whether a group above a task has the same metric, so that the task's is a part of the group's."""
    above = [group for group, members in _subtasks(value).items() if members and task in members and group not in seen]
    return any(
        (group in value["results"] and key in _metrics(value, group)) or _averaged(value, group, key, (*seen, task))
        for group in above
    )


def _subtasks(value: dict[str, Any]) -> Mapping[str, Sequence[str]]:
    below = value.get("group_subtasks")
    return below if isinstance(below, dict) else {}


def _leaves(value: dict[str, Any], task: str, seen: Sequence[str] = ()) -> list[str]:
    members = _subtasks(value).get(task)
    if not members or task in seen:
        return [task]
    return list(dict.fromkeys(leaf for member in members for leaf in _leaves(value, member, (*seen, task))))


def _metrics(value: dict[str, Any], task: str) -> list[str]:
    """`metric,filter` keys of a task that hold a finite number."""
    found = value["results"][task]
    if not isinstance(found, dict):
        return []
    return [key for key in found if "," in key and "_stderr," not in key and _number(found[key]) is not None]


def _coordinate(value: dict[str, Any], task: str, key: str, samples: _Samples) -> Coordinate:
    metric, _, filter_name = key.partition(",")
    found = value["results"][task]
    leaves = _leaves(value, task)
    name = f"{task}/{key.removesuffix(',none')}"
    columns, contents, why = samples.columns(leaves, metric, filter_name, grouped=leaves != [task])
    raw = _number(found[key])
    assert raw is not None
    error = _number(found.get(f"{metric}_stderr,{filter_name}"))
    values = columns.get("value", [])
    n_items = len(values) or _n_samples(value, leaves)
    n_scored = sum(one is not None for one in values) or n_items
    measurement = Measurement(
        metric=key.removesuffix(",none"),
        higher_is_better=_higher(value, task, leaves, metric),
        raw=raw,
        stderr=None if error is None or error < 0 or (error == 0 and why.endswith(NO_ANSWER)) else error,
        n_items=n_items,
        n_scored=n_scored,
        status="ok" if n_scored == n_items else "partial",
        reason=None if n_scored == n_items else f"{n_items - n_scored} questions have no {metric} in the samples",
        detail={"task": task, **({"tasks": dict.fromkeys(leaves)} if leaves != [task] else {})},
    )
    items: Items | NoItems = NoItems(why)
    if not why:
        items = scored_items(columns, measurement, {"lm_eval": task})
    return Coordinate(
        name=name,
        kind="lm_eval",
        measurement=measurement,
        meaning=_meaning(value, task, leaves),
        contents=contents,
        items=items,
    )


class _Samples:
    """The `samples_TASK_DATE.jsonl` files of one result file, each read once."""

    def __init__(self, results: Path) -> None:
        self._folder = results.parent
        self._date = results.stem.removeprefix("results").removeprefix("_")
        self._read = lru_cache(maxsize=None)(self._rows)

    def columns(
        self, tasks: Sequence[str], metric: str, filter_name: str, *, grouped: bool
    ) -> tuple[dict[str, list[Any]], dict[str, str], str]:
        """(columns of items, item -> digest of its text, message why there are none or "")."""
        columns: dict[str, list[Any]] = {"id": [], "value": [], **({MEMBER: []} if grouped else {})}
        contents: dict[str, str] = {}
        for task in tasks:
            rows = self._read(task)
            if rows is None:
                return {}, {}, f"no samples of {task} beside the results; run lm_eval with --log_samples"
            mine = [row for row in rows if row.get("filter", "none") == filter_name and metric in row]
            if not mine:
                return {}, {}, f"the samples of {task} have no {metric},{filter_name} per question"
            for row in mine:
                identity = f"{task}/{row.get('doc_id')}"
                columns["id"].append(identity)
                columns["value"].append(_number(row[metric]))
                if grouped:
                    columns[MEMBER].append(task)
                if isinstance(row.get("doc_hash"), str):
                    contents[identity] = row["doc_hash"]
        if all(one is None for one in columns["value"]):
            return {}, {}, f"{metric} is {NO_ANSWER}"
        return columns, contents, ""

    def _rows(self, task: str) -> list[dict[str, Any]] | None:
        path = self._folder / f"samples_{task}_{self._date}.jsonl"
        if not path.exists():
            others = [
                p
                for p in self._folder.glob("samples_*.jsonl")
                if re.fullmatch(rf"samples_{re.escape(task)}(_\d{{4}}-\d\d-\d\dT[^_]*)?\.jsonl", p.name)
            ]
            if len(others) != 1:
                return None
            path = others[0]
        rows = []
        try:
            with path.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines, start=1):
                    rows.append(_row(line, f"{path} line {number}"))
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read {path}: {error}") from error
        return rows


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON ({error}); log the samples again") from error
    if not isinstance(row, dict) or "doc_id" not in row:
        raise DataError(f"{where}: no sample of lm-eval, it has no doc_id")
    # Without the texts, which may be pages long and are not compared.
    texts = ("doc", "arguments", "resps", "filtered_resps", "target")
    return {key: one for key, one in row.items() if key not in texts}


def _n_samples(value: dict[str, Any], leaves: Sequence[str]) -> int:
    rows = value.get("n-samples")
    found = [rows.get(leaf) for leaf in leaves] if isinstance(rows, dict) else []
    counts = [row.get("effective") for row in found if isinstance(row, dict)]
    return sum(count for count in counts if isinstance(count, int))


def _higher(value: dict[str, Any], task: str, leaves: Sequence[str], metric: str) -> bool:
    told = value.get("higher_is_better")
    for name in (task, *leaves):
        row = told.get(name) if isinstance(told, dict) else None
        if isinstance(row, dict) and isinstance(row.get(metric), bool):
            return bool(row[metric])
    return metric not in LOWER_IS_BETTER


def _meaning(value: dict[str, Any], task: str, leaves: Sequence[str]) -> dict[str, JsonValue]:
    found: dict[str, JsonValue] = {"tasks": ", ".join(leaves)} if leaves != [task] else {}
    for key, table in (("version", "versions"), ("num_fewshot", "n-shot")):
        rows = value.get(table)
        told = [rows.get(leaf) for leaf in leaves] if isinstance(rows, dict) else []
        distinct = list(dict.fromkeys(str(one) for one in told if one is not None))
        found[key] = ", ".join(distinct) or None
    configs = value.get("configs")
    for leaf in leaves:
        config = configs.get(leaf) if isinstance(configs, dict) else None
        if not isinstance(config, dict):
            continue
        for key in MEANING:
            if config.get(key) is not None:
                of = key if leaves == [task] else f"{leaf} {key}"
                found[of] = _ADDRESS.sub("", json.dumps(config[key], sort_keys=True, default=str))
    return found


def _number(value: Any) -> float | None:
    """A finite number; true and false are answers."""
    good = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if good else None
