"""The record in a feed: what is written is read back bit for bit, and what contradicts itself is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from samples import as_json, measurement, vector

from harness.core.errors import DataError
from harness.core.measurement import failed
from harness.core.vector import ComponentRecord, Mixture, ReferenceRecord, RewardVector
from harness.feed.lines import parse_vector

FINITE = st.floats(allow_nan=False, allow_infinity=False)
UNSIGNED = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
NUMBERS = st.none() | FINITE
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def components(draw: st.DrawFn, name: str) -> ComponentRecord:
    """Any component that may stand in a feed."""
    if draw(st.booleans()):
        measured = failed("metric", draw(st.text(min_size=1)), n_items=draw(st.integers(0, 2**53))).model_dump()
    else:
        n = draw(st.integers(0, 2**53))
        measured = {
            "metric": draw(st.text()),
            "higher_is_better": draw(st.booleans()),
            "raw": draw(FINITE),
            "stderr": draw(st.none() | UNSIGNED),
            "n_items": n,
            "n_scored": n,
            "interval": draw(st.none() | st.tuples(FINITE, FINITE)),
            "n_clusters": draw(st.none() | st.integers(1, 99)),
            "status": "ok",
            "detail": draw(st.dictionaries(st.text(), JSON, max_size=3)),
        }
    return ComponentRecord(
        **measured,
        name=name,
        kind="logprob",
        role="source",
        standardized=draw(NUMBERS),
        shrunk=draw(NUMBERS),
        reliability=draw(st.none() | st.floats(0, 1)),
        weight=draw(FINITE),
        change=draw(NUMBERS),
        change_stderr=draw(st.none() | UNSIGNED),
        n_paired=draw(st.none() | st.integers(1, 99)),
    )


@st.composite
def vectors(draw: st.DrawFn) -> RewardVector:
    """Any reward vector, with arbitrary finite numbers."""
    parts = [draw(components(name)) for name in ("code", "prose")[: draw(st.integers(1, 2))]]
    weights = draw(st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=3))
    return vector({"code": -1.0}).model_copy(
        update={
            "step": draw(st.none() | st.integers(0, 2**53)),
            "components": parts,
            "vector": [part.raw for part in parts],
            "standardized": [part.standardized for part in parts],
            "mixture": Mixture(domains=[str(index) for index in range(len(weights))], weights=weights),
            "reference": ReferenceRecord(
                id=None,
                mode="running",
                mean=[draw(NUMBERS) for _ in parts],
                std=[draw(NUMBERS) for _ in parts],
                n=draw(st.integers(0, 99)),
            ),
            "scalar": draw(NUMBERS),
            "gain": draw(NUMBERS),
            "scalar_stderr": draw(st.none() | UNSIGNED),
            "gain_stderr": draw(st.none() | UNSIGNED),
            "gain_standardized": draw(NUMBERS),
            "previous_step": draw(st.none() | st.integers(0, 2**53)),
        }
    )


@given(vectors())
def test_a_vector_survives_the_feed_bit_for_bit(value: RewardVector) -> None:
    line = value.to_line()
    again = parse_vector(json.loads(line), "line 1")
    assert again == value
    assert again.to_line() == line, "equal floats could still differ in the sign of zero"
    assert json.loads(line, parse_constant=pytest.fail), "no NaN or Infinity, which are not JSON"
    assert "\n" not in line


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "place",
    [
        ("scalar",),
        ("scalar_stderr",),
        ("gain",),
        ("gain_stderr",),
        ("gain_standardized",),
        ("components", 0, "change"),
        ("components", 0, "change_stderr"),
        ("components", 0, "interval", 0),
        ("vector", 0),
        ("standardized", 0),
        ("components", 0, "raw"),
        ("components", 0, "stderr"),
        ("components", 0, "standardized"),
        ("components", 0, "shrunk"),
        ("components", 0, "reliability"),
        ("components", 0, "weight"),
        ("components", 0, "detail", "bits_per_byte"),
        ("reference", "mean", 0),
        ("reference", "std", 0),
        ("mixture", "weights", 0),
        ("provenance", "seconds"),
        ("provenance", "tasks", "code", "definition"),
    ],
)
def test_nan_and_infinity_are_refused_anywhere_in_a_line(place: tuple[str | int, ...], bad: float) -> None:
    code = measurement(-1.0, interval=(-1.5, -0.5))
    value: Any = as_json(vector({"code": code}, mixture={"a": 1.0}))
    target = value
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = bad
    with pytest.raises(DataError, match="finite number"):
        parse_vector(json.loads(json.dumps(value)), "line 1")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("vector",), [-9.0, -2.0], "vector does not equal"),
        (("standardized",), [0.5, None], "standardized does not equal"),
        (("vector",), [-1.0], "vector does not equal"),
        (("reference", "mean"), [None], "reference.mean has 1 entries for 2 components"),
        (("reference", "std"), [None], "reference.std has 1 entries for 2 components"),
        (("components", 1, "name"), "code", "a component is named twice"),
        (("components",), [], "components: List should have at least 1 item"),
        (("step",), -1, "step: Input should be greater than or equal to 0"),
        (("surprise",), 1, "surprise: Extra inputs"),
        (("components", 0, "reliability"), 1.5, "reliability: Input should be less than or equal to 1"),
    ],
)
def test_a_vector_that_contradicts_itself_is_refused(place: tuple[str | int, ...], value: Any, message: str) -> None:
    broken: Any = as_json(vector({"code": -1.0, "prose": -2.0}))
    target = broken
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    with pytest.raises(DataError, match=rf"line 7 is not a valid reward vector: .*{message}"):
        parse_vector(broken, "line 7")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"domains": ["a"], "weights": [0.5, 0.5]}, "1 domains but 2 weights"),
        ({"domains": ["a", "a"], "weights": [0.5, 0.5]}, "named twice"),
        ({"a": -0.1, "b": 1.1}, "non-negative"),
        ({"a": 0.0}, "not all zero"),
        ({"a": True, "b": 1}, "expected a number, found true"),
        ({"a": 1, "b": 1, "sizes": [True, 2]}, "expected a number, found true"),
        ({"a": float("nan")}, "finite number"),
        ({}, "at least 1 item"),
        (["a"], "valid dictionary"),
        ({"domains": ["a", "b"], "weights": [1, 1], "sizes": [1]}, "2 domains but 1 sizes"),
        ({"a": 1, "b": 1, "sizes": {"a": 1}}, "no size for b"),
        ({"a": 1, "sizes": {"a": 1, "b": 1}}, "b has no weight"),
        ({"a": 1, "sizes": {"a": 0}}, "sizes must be positive"),
        ({"a": 1, "sizes": {"a": -1}}, "sizes must be positive"),
        ({"a": 1, "sizes": {"a": float("inf")}}, "finite number"),
        ({"a": 1, "sizes": {"a": "much"}}, "valid number"),
        ({"domains": 5, "weights": [1], "sizes": {"a": 1}}, "valid list"),
        ({"a": 1e300, "sizes": {"a": 1e300}}, "too large or too small"),
        ({"sizes": {"a": 1}}, "a has no weight"),
    ],
)
def test_a_mixture_that_is_no_distribution_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Mixture.parse(value)


def test_a_mixture_is_a_table_of_multipliers_or_domains_with_weights() -> None:
    table = Mixture.parse({"code": 3, "prose": 1.5})
    assert table == Mixture.parse({"domains": ["code", "prose"], "weights": [3.0, 1.5]})
    assert Mixture.parse(table) is table
    assert table.normalized() == {"code": 3 / 4.5, "prose": 1.5 / 4.5}


@pytest.mark.parametrize(
    "value",
    [
        {"domains": ["code", "prose"], "weights": [2, 1], "sizes": [100, 300]},
        {"domains": ["code", "prose"], "weights": [2, 1], "sizes": {"prose": 300, "code": 100}},
        {"code": 2, "prose": 1, "sizes": {"prose": 300, "code": 100}},
        {"code": 2, "prose": 1, "sizes": [100, 300]},
    ],
)
def test_multipliers_with_sizes_give_shares_of_their_product(value: dict[str, Any]) -> None:
    mixture = Mixture.parse(value)
    assert mixture.normalized() == {"code": 0.4, "prose": 0.6}
    assert (mixture.weights, mixture.sizes) == ([2.0, 1.0], [100.0, 300.0])
    assert Mixture.model_validate_json(mixture.model_dump_json()) == mixture


def test_a_mixture_without_sizes_is_written_as_before_they_were_known() -> None:
    assert Mixture.parse({"code": 1, "sizes": 3}).domains == ["code", "sizes"], "a number there is a domain's weight"
    assert Mixture.parse({"code": 1}).model_dump_json() == '{"domains":["code"],"weights":[1.0]}'


@given(st.lists(st.floats(0, 1e100), min_size=1, max_size=60).filter(lambda weights: sum(weights) > 1e-100))
def test_a_normalised_mixture_sums_to_one(weights: list[float]) -> None:
    mixture = Mixture.parse({str(index): weight for index, weight in enumerate(weights)})
    assert sum(mixture.normalized().values()) == pytest.approx(1.0)


def test_null_is_written_as_null() -> None:
    line = vector({"code": None}).to_line()
    assert '"vector":[null]' in line
    assert '"scalar":null' in line
    assert '"gain":null' in line
