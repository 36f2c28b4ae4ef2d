"""Adds to a measurement of an earlier version what its detail lacks and its items give. Pure arithmetic.

Earlier versions wrote the values without errors of bits per byte, of pass^k, and of the same tasks tried again. Keys are put
where this version writes them, so that a completed measurement equals the one that a new run writes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from harness.core.measurement import Measurement
from harness.reward_models.items import MEMBER
from harness.reward_models.repeat import interval_repeat, stderr_repeat
from harness.reward_models.statistics import bits_per_byte
from harness.reward_models.tau2.pass_hat import Trials, pass_hat_estimate
from harness.reward_models.tau2.reward import SUCCESS

BITS, BITS_ERROR = "bits_per_byte", "bits_per_byte_stderr"
COLUMNS = ("id", "logprob", "n_bytes", "gold_logprob", "gold_n_bytes", "cluster", MEMBER, "task_id", "reward")
"""The columns of a table of items that `completed` reads."""


def is_complete(detail: Mapping[str, JsonValue]) -> bool:
    """Whether `completed` would have nothing to add to a detail."""
    return not (_lacks_repeats(detail) or _lacks_bits(detail) or any(map(_lacks_bits, _breakdown(detail).values())))


def completed(measurement: Measurement, columns: Mapping[str, Sequence[Any]]) -> Measurement:
    """With the errors that its items give; as it was where it lacks none. `columns`: the table of its items, COLUMNS at most."""
    detail = dict(measurement.detail)
    if _lacks_repeats(detail):
        detail = _after(detail, "pass_hat", _repeats(detail, columns))
    if _lacks_bits(detail):
        detail = _after(detail, BITS, _bits(columns, None))
    breakdown = _breakdown(detail)
    if any(map(_lacks_bits, breakdown.values())):
        detail["breakdown"] = {
            name: _after(row, BITS, _bits(columns, _members(row)))
            if isinstance(row, dict) and _lacks_bits(row)
            else row
            for name, row in breakdown.items()
        }
    return measurement if detail == measurement.detail else measurement.model_copy(update={"detail": detail})


def _lacks_repeats(detail: Mapping[str, JsonValue]) -> bool:
    return "pass_hat" in detail and "n_tasks" in detail and "pass_hat_stderr" not in detail


def _lacks_bits(detail: JsonValue | Mapping[str, JsonValue]) -> bool:
    return isinstance(detail, Mapping) and BITS in detail and BITS_ERROR not in detail


def _breakdown(detail: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    """A suite's benchmarks by name."""
    found = detail.get("breakdown")
    return found if "suite" in detail and isinstance(found, dict) else {}


def _members(row: Mapping[str, JsonValue]) -> list[str]:
    """The tasks of one benchmark."""
    tasks = row.get("tasks")
    return list(tasks) if isinstance(tasks, dict) and tasks else [str(row.get("task"))]


def _after(detail: Mapping[str, JsonValue], key: str, more: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """`more` behind a key that is there."""
    made: dict[str, JsonValue] = {}
    for name, value in detail.items():
        made[name] = value
        if name == key:
            made |= more
    return made


def _is_number(value: Any) -> bool:
    """Neither None nor the NaN that some readers of Parquet make of it."""
    return value is not None and math.isfinite(value)


def _bits(columns: Mapping[str, Sequence[Any]], members: Sequence[str] | None) -> dict[str, JsonValue]:
    """The error of bits per byte: of a field's pairs, or of the right answers to the questions of `members` (None: to all)."""
    gold = "gold_logprob" in columns
    nats, sizes = ("gold_logprob", "gold_n_bytes") if gold else ("logprob", "n_bytes")
    if nats not in columns or sizes not in columns:
        return {}
    rows = [
        row
        for row, value in enumerate(columns[nats])
        if _is_number(value) and (members is None or columns[MEMBER][row] in members)
    ]
    clusters = rows if gold or "cluster" not in columns else [columns["cluster"][row] for row in rows]
    found = bits_per_byte([columns[nats][row] for row in rows], [int(columns[sizes][row]) for row in rows], clusters)
    return {BITS_ERROR: None if found is None else found.stderr}


def _repeats(detail: Mapping[str, JsonValue], columns: Mapping[str, Sequence[Any]]) -> dict[str, JsonValue]:
    """Of a domain's simulations: the errors of pass^k, and of the same tasks tried again."""
    planned, powers = detail["n_tasks"], detail["pass_hat"]
    if not isinstance(planned, int) or not isinstance(powers, dict):
        return {}
    rewards: dict[str, list[float]] = {}
    for task, reward in zip(columns.get("task_id", ()), columns.get("reward", ()), strict=True):
        rewards.setdefault(str(task), []).extend([float(reward)] if _is_number(reward) else [])
    untried: list[list[float]] = [[] for _ in range(planned - len(rewards))]
    every = [*rewards.values(), *untried]
    tried = [Trials(len(values), sum(value >= SUCCESS for value in values)) for values in every]
    again = interval_repeat(every)
    estimates = {k: pass_hat_estimate(tried, int(k)) for k in powers}
    return {
        "pass_hat_stderr": {k: found and found.stderr for k, found in estimates.items()},
        "stderr_repeat": stderr_repeat(every),
        "interval_repeat": None if again is None else list(again),
    }
