"""What is said to differ is what makes a verdict: nothing where databases are equal, the field where they are not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tau2_samples import needs_port, play

from harness.tasks.tau2.differing import Differing, differing
from harness.tasks.tau2.sources import open_domain

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from([0.0, 1.0, "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_nothing_differs_from_itself(value: Any) -> None:
    assert not list(differing(value, value, "r"))


def test_the_smallest_part_is_named_and_25_is_not_25_point_0() -> None:
    expected = {"paid": 25, "orders": [{"id": 1, "state": "open"}, {"id": 2}], "gone": "x"}
    found = {"paid": 25.0, "orders": [{"id": 1, "state": "closed"}], "more": True}
    assert list(differing(expected, found, "users.sara")) == [
        Differing("users.sara.paid", 25, 25.0),
        Differing("users.sara.orders[0].state", "open", "closed"),
        Differing("users.sara.orders[1]", {"id": 2}, None),
        Differing("users.sara.gone", "x", None),
        Differing("users.sara.more", None, True),
    ]


@needs_port
@pytest.mark.parametrize("domain", ["mock", "airline", "retail"])
def test_an_end_differs_exactly_where_its_databases_do_not_match(domain: str) -> None:
    opened = open_domain(domain)
    for task in opened.tasks()[:20]:
        messages = play(opened, task)
        idle = [] if task.evaluation_criteria and not task.evaluation_criteria.env_assertions else messages
        for some in (messages, idle):
            found, end = opened.differing(task, some), opened.end_state(task, some)
            if end.database_matches is not None:
                assert bool(found) != end.database_matches, task.id
            assert all(one.expected != one.found or type(one.expected) is not type(one.found) for one in found)
