"""Items explain a measurement's value, or say why not: by the tables of every kind, with members weighed as the value has it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import measurement

from harness.core.measurement import failed
from harness.reward_models.interval import stderr, terms
from harness.reward_models.items import Items, NoItems, items, layout, scored_items
from harness.reward_models.statistics import clustered_mean


def table(**columns: Any) -> dict[str, Any]:
    return columns


def test_the_items_of_a_field_are_its_scored_pairs_by_cluster() -> None:
    found = scored_items(
        table(
            id=["a", "b", "c", "d"],
            logprob_per_token=[-1.0, None, -3.0, -5.0],
            cluster=["x", "x", "x", "y"],
            status=["ok", "failed", "ok", "ok"],
        ),
        measurement(-3.0),
    )
    assert isinstance(found, Items)
    assert (found.layout.ids, found.layout.n_clusters, found.mean) == (("a", "c", "d"), 2, -3.0)
    assert stderr(found) == pytest.approx(clustered_mean([-1.0, -3.0, -5.0], ["x", "x", "y"]).stderr)


def test_the_items_of_a_domain_are_its_simulations_by_task() -> None:
    found = scored_items(
        table(id=["a-0", "a-1", "b-0", "b-1"], task_id=["a", "a", "b", "b"], reward=[1.0, 0.0, 1.0, 1.0]),
        measurement(0.75, metric="reward"),
    )
    assert isinstance(found, Items)
    assert found.layout.n_clusters == 2
    assert found.unit_interval.tolist() == [True]


def grouped(detail: dict[str, Any], raw: float) -> Items | NoItems:
    return scored_items(
        table(id=["p/0", "p/1", "p/2", "q/0"], task=["p", "p", "p", "q"], value=[1.0, 0.0, 0.0, 1.0]),
        measurement(raw, metric="acc", detail=detail),
    )


def test_a_group_weighs_its_tasks_as_its_value_does() -> None:
    detail = {"tasks": {"p": {"value": 1 / 3}, "q": {"value": 1.0}}}
    by_size, alike = grouped(detail, 0.5), grouped(detail, 2 / 3)
    assert isinstance(by_size, Items) and isinstance(alike, Items)
    assert by_size.layout.weights.tolist() == [0.75, 0.25]
    assert alike.layout.weights.tolist() == [0.5, 0.5]


def test_a_suite_weighs_benchmarks_alike_and_each_benchmark_its_own_way() -> None:
    values = {"p": [1.0, 0.0, 0.0], "q": [1.0], "r": [0.0, 1.0]}
    by_size = {"one": {"task": "one", "value": 0.5, "tasks": {m: {"value": np.mean(values[m])} for m in "pq"}}}
    detail = {"suite": "general", "breakdown": by_size | {"two": {"task": "r", "value": 0.5}}}
    columns = table(
        id=[f"{m}/{i}" for m, x in values.items() for i in range(len(x))],
        task=[m for m, x in values.items() for _ in x],
        value=[v for x in values.values() for v in x],
    )
    found = scored_items(columns, measurement(0.5, metric="mean of benchmarks", detail=detail))
    assert isinstance(found, Items)
    assert found.layout.weights.tolist() == [0.375, 0.125, 0.5]
    by_size["one"]["value"] = 2 / 3
    found = scored_items(columns, measurement(7 / 12, metric="mean of benchmarks", detail=detail))
    assert isinstance(found, Items)
    assert found.layout.weights.tolist() == [0.25, 0.25, 0.5]


@pytest.mark.parametrize(
    ("columns", "raw", "reason"),
    [
        (table(id=["a"], value=[0.5]), 0.4, "no mean of its items"),
        (table(id=["a", "b"], value=[None, None]), 0.4, "none of its items has a value"),
        (table(id=["a", "a"], value=[0.4, 0.4]), 0.4, "one id"),
        (table(id=["a"], answer=["x"]), 0.4, "no values"),
        (table(id=["a"], value=[0.4]), None, "no value"),
    ],
)
def test_items_that_do_not_explain_the_value_are_none_with_a_reason(
    columns: dict[str, Any], raw: float | None, reason: str
) -> None:
    value = failed("acc", "broken") if raw is None else measurement(raw, metric="acc")
    found = scored_items(columns, value)
    assert isinstance(found, NoItems)
    assert reason in found.reason


@given(
    st.lists(st.tuples(st.floats(-1e3, 1e3), st.integers(0, 5)), min_size=2, max_size=30),
    st.randoms(use_true_random=False),
)
def test_the_error_is_that_of_the_clustered_mean_in_any_order(rows: list[tuple[float, int]], random: Any) -> None:
    rows = [(value + index / 7, cluster) for index, (value, cluster) in enumerate(rows)]
    named = list(enumerate(rows))
    expected = clustered_mean([value for value, _ in rows], [cluster for _, cluster in rows])
    random.shuffle(named)
    found = items(layout([str(i) for i, _ in named], [c for _, (_, c) in named]), [v for _, (v, _) in named])
    assert found.mean == expected.mean
    if expected.stderr is None:
        assert stderr(found) is None
    elif expected.stderr > 1e-9:
        assert stderr(found) == pytest.approx(expected.stderr, rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_answers_that_are_all_alike_are_no_certainty(value: float) -> None:
    found = items(layout([str(i) for i in range(18)], range(18)), [value] * 18)
    assert terms(found).variance == pytest.approx((1 / 18) ** 2), "as if one item had come out otherwise"


def test_values_without_bounds_that_are_all_alike_have_no_error() -> None:
    assert stderr(items(layout(["a", "b"], range(2)), [-1.1, -1.1])) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_are_no_items(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        items(layout(["a", "b"], range(2)), [1.0, bad])
