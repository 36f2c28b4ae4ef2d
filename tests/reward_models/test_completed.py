"""What an earlier version left out of a measurement is what this version writes, computed from the items alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.components.tau2.component import _items
from harness.core.measurement import Measurement
from harness.core.tau2.fault import Fault
from harness.core.tokens import TokenPair
from harness.reward_models.benchmarks import gold_scores
from harness.reward_models.completed import completed, is_complete
from harness.reward_models.logprob import measure_logprob
from harness.reward_models.tau2.measure import measure_reward
from harness.reward_models.tau2.result import Conversation, Key, Result
from harness.reward_models.tau2.reward import NOTHING, Verdict, unjudged

LATER = ("bits_per_byte_stderr", "pass_hat_stderr", "stderr_repeat", "interval_repeat")


def older(measurement: Measurement) -> Measurement:
    """As it was before its errors came."""
    detail = {key: value for key, value in measurement.detail.items() if key not in LATER}
    return measurement.model_copy(update={"detail": detail})


def check(now: Measurement, columns: dict[str, list[Any]]) -> None:
    assert not is_complete(older(now).detail)
    made = completed(older(now), columns)
    assert made.model_dump_json() == now.model_dump_json(), "the same keys in the same order, bit for bit"
    assert is_complete(made.detail) and completed(made, columns) is made


@pytest.mark.parametrize("lost", [(), (2,), (0, 1, 2, 3, 4, 5, 6)])
def test_of_a_field(lost: tuple[int, ...]) -> None:
    pairs = [
        TokenPair(id=str(i), ids=np.arange(i + 3, dtype=np.int32), n_context=1, n_bytes=7 * i + 5, cluster=f"c{i // 2}")
        for i in range(8)
    ]
    logprob = np.random.default_rng(0).normal(-20, 4, size=8)
    logprob[list(lost)] = np.nan
    table = {
        "id": [pair.id for pair in pairs],
        "n_bytes": [pair.n_bytes for pair in pairs],
        "logprob": [None if i in lost else float(x) for i, x in enumerate(logprob)],
        "cluster": [pair.cluster for pair in pairs],
    }
    check(measure_logprob(pairs, logprob, n_items=8), table)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, None]), min_size=1, max_size=12), st.integers(1, 3))
def test_of_simulations_whatever_is_missing(rewards: list[float | None], trials: int) -> None:
    tasks = [f"t{i}" for i in range(-(-len(rewards) // trials) + 1)]  # one of them was never tried
    results = []
    for at, reward in enumerate(rewards):
        verdict = unjudged("x") if reward is None else Verdict(reward=reward, components=NOTHING, basis=("DB",))
        fault = Fault(cause="infrastructure", rule="endpoint", words="w") if reward is None else None
        key = Key(tasks[at // trials], at % trials)
        results.append(Result(key=key, verdict=verdict, fault=fault, conversation=Conversation(turns=3)))
    planned = tasks[: -1 if len(rewards) % 2 else None]
    now = measure_reward(results, task_ids=planned, trials=trials, source="here", task_revision="sha256:0")
    check(now, _items(results))


def test_of_simulations_that_nobody_ran() -> None:
    check(measure_reward([], task_ids=["a", "b"], trials=2, source="here", task_revision="sha256:0"), {})


GOLD: dict[str, list[Any]] = {
    "id": [f"{task}/{i}" for i, task in enumerate("aabbcc")],
    "task": list("aabbcc"),
    "value": [1.0, 0.0, 1.0, 1.0, 0.0, 0.0],
    "gold_logprob": [-3.0, -5.5, -2.0, None, -7.0, -4.5],
    "gold_n_bytes": [4, 9, 3, None, 8, 8],
}


def gold(*tasks: str) -> dict[str, Any]:
    rows = [i for i, task in enumerate(GOLD["task"]) if task in tasks and GOLD["gold_logprob"][i] is not None]
    found = gold_scores(
        [GOLD["gold_logprob"][i] for i in rows], [1] * len(rows), [GOLD["gold_n_bytes"][i] for i in rows]
    )
    return {"bits_per_byte": found.bits_per_byte, "bits_per_byte_stderr": found.bits_per_byte_stderr}


def measured(detail: dict[str, Any]) -> Measurement:
    return Measurement(metric="acc", raw=0.5, n_items=6, n_scored=6, status="ok", detail=detail)


def test_of_right_answers() -> None:
    check(measured({"task": "abc", **gold("a", "b", "c"), "gold_logprob_per_token": -1.0}), GOLD)


def test_of_each_benchmark_of_a_suite() -> None:
    rows = {
        "alone": {"value": 0.5, "task": "a", **gold("a"), "chance": 0.25},
        "group": {"value": 0.5, "task": "bc", **gold("b", "c"), "tasks": {"b": {}, "c": {}}},
        "written": {"value": 0.5, "task": "d"},
    }
    now = measured({"suite": "general", "breakdown": rows})
    before = measured(
        {
            "suite": "general",
            "breakdown": {n: {k: v for k, v in row.items() if k not in LATER} for n, row in rows.items()},
        }
    )
    assert completed(before, GOLD).model_dump_json() == now.model_dump_json()
    assert rows["alone"]["bits_per_byte_stderr"] != rows["group"]["bits_per_byte_stderr"]


def test_what_the_items_do_not_say_stays_out() -> None:
    before = measured({"bits_per_byte": 1.0})
    assert completed(before, {"id": ["0"], "value": [1.0]}) is before
