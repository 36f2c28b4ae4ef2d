"""Simulations that share a database never see each other's changes, and verdicts see all of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from harness.tasks.tau2.merge import deep_merge
from harness.tasks.tau2.records import Table, View


class Thing(BaseModel):
    name: str
    tags: list[str]
    price: int | float | None = None


RAW: dict[str, Any] = {f"t{n}": {"name": f"thing {n}", "tags": ["a"], "price": n} for n in range(5)}
KEYS = st.sampled_from([*RAW, "new", "other"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("tag"), KEYS),
        st.tuples(st.just("put"), KEYS),
        st.tuples(st.just("drop"), KEYS),
        st.tuples(st.just("list"), KEYS),
        st.tuples(st.just("read"), KEYS),
    ),
    max_size=12,
)


def view(table: Table | None = None) -> View:
    return View({"things": table or Table(RAW, Thing.model_validate)})


def apply(things: Any, steps: list[tuple[str, str]]) -> list[Any]:
    """The same steps on anything that is a dictionary; what was seen on the way."""
    seen: list[Any] = []
    for what, key in steps:
        if what == "put":
            things[key] = Thing(name=key, tags=[])
        elif what == "list":
            seen.append([(name, thing.model_dump()) for name, thing in things.items()])
        elif key not in things:
            seen.append(None)
        elif what == "tag":
            things[key].tags.append("touched")
        elif what == "drop":
            del things[key]
        else:
            seen.append(things[key].model_dump())
    return [*seen, len(things), sorted(things), {name: thing.model_dump() for name, thing in things.items()}]


@given(STEPS, STEPS)
def test_a_view_behaves_as_a_dictionary_of_its_own(first: list[tuple[str, str]], second: list[tuple[str, str]]) -> None:
    table = Table(RAW, Thing.model_validate)
    one, other = view(table), view(table)
    for steps, opened in ((first, one), (second, other), ([], view(table))):
        alone: dict[str, Thing] = {key: Thing.model_validate(value) for key, value in RAW.items()}
        assert apply(opened.things, steps) == apply(alone, steps)


@given(STEPS, STEPS)
def test_two_views_are_the_same_exactly_when_their_records_are(
    first: list[tuple[str, str]], second: list[tuple[str, str]]
) -> None:
    table = Table(RAW, Thing.model_validate)
    one, other = view(table), view(table)
    apply(one.things, first)
    apply(other.things, second)
    everything = [{key: thing.model_dump() for key, thing in opened.things.items()} for opened in (one, other)]
    assert one.same_as(other) == other.same_as(one) == (everything[0] == everything[1])


def test_a_number_of_another_type_is_another_record() -> None:
    one, other = view(), view()
    one.things["t1"].price = 25
    other.things["t1"].price = 25.0
    assert not one.same_as(other)


def test_reading_copies_nothing_and_writing_copies_one() -> None:
    opened = view()
    with opened.read_only():
        assert [thing.name for thing in opened.things.values()] == [value["name"] for value in RAW.values()]
    assert not opened.things.touched
    opened.things["t2"].tags.append("b")
    assert list(opened.things.touched) == ["t2"]


def test_merged_data_reach_only_their_view_and_leave_the_rest() -> None:
    table = Table(RAW, Thing.model_validate)
    one, other = view(table), view(table)
    one.merge({"things": {"t1": {"tags": ["x"]}, "t9": {"name": "nine", "tags": []}}})
    assert one.things["t1"].model_dump() == {"name": "thing 1", "tags": ["x"], "price": 1}
    assert one.things["t9"].name == "nine" and "t9" not in other.things
    assert other.things["t1"].tags == ["a"] and RAW["t1"]["tags"] == ["a"]
    with pytest.raises(ValueError, match="'nothing'"):
        one.merge({"nothing": {}})


@given(st.recursive(st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3)))
def test_merging_a_value_into_itself_changes_nothing(value: Any) -> None:
    assert deep_merge(value, value) == value
