"""Flips name what became right and what became wrong, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.reward_models.flips import flips
from harness.reward_models.items import Items, items, layout


def answers(ids: str | list[str], values: list[float], clusters: list[str] | None = None) -> Items:
    return items(layout(list(ids), clusters or list(ids)), values)


def test_questions_by_id_whatever_the_order_and_whatever_only_one_side_scored() -> None:
    found = flips([answers("abcde", [1, 1, 0, 0, 1])], [answers("fdcba", [1, 1, 0, 0, 1])])
    assert found is not None
    assert (found.to_right, found.to_wrong, found.stayed) == (("d",), ("b",), 2)


def test_simulations_are_named_by_task_and_trial() -> None:
    ids, tasks = ["7-0", "7-1", "a-1-0", "a-1-1"], ["7", "7", "a-1", "a-1"]
    found = flips([answers(ids, [0, 1, 1, 0], tasks)], [answers(ids, [1, 1, 0, 0], tasks)])
    assert found is not None
    assert (found.to_right, found.to_wrong) == (("7 trial 0",), ("a-1 trial 0",))


def test_where_lower_is_better_an_error_of_0_is_right() -> None:
    found = flips([answers("ab", [1, 0])], [answers("ab", [0, 1])], higher_is_better=False)
    assert found is not None
    assert (found.to_right, found.to_wrong) == (("a",), ("b",))


def test_a_part_of_a_reward_is_not_right() -> None:
    found = flips([answers("abcd", [0.5, 1, 0, 1])], [answers("abcd", [1, 0.5, 0.5, 1])])
    assert found is not None
    assert (found.to_right, found.to_wrong, found.stayed) == (("a",), ("b",), 2)


def test_values_that_are_no_answers_have_no_flips() -> None:
    assert flips([answers("ab", [-1.5, -2])], [answers("ab", [0, 1])]) is None
    assert flips([answers("ab", [0.3, 0.6])], [answers("ab", [0.2, 0.9])]) is None
    assert flips([answers("ab", [0, 1])], [answers("cd", [0, 1])]) is None


def test_with_seeds_an_item_flips_where_every_seed_agrees() -> None:
    before = [answers("abcd", [0, 0, 1, 1]), answers("dcba", [1, 1, 1, 0])]
    after = [answers("abcd", [1, 1, 0, 0]), answers("abcd", [1, 1, 0, 1])]
    found = flips(before, after)
    assert found is not None
    assert (found.to_right, found.to_wrong, found.stayed) == (("a",), ("c",), 2)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_both_ways_add_up_to_the_change(rows: list[tuple[bool, bool]]) -> None:
    ids = [str(i) for i in range(len(rows))]
    found = flips([answers(ids, [float(b) for b, _ in rows])], [answers(ids, [float(a) for _, a in rows])])
    assert found is not None
    assert len(found.to_right) - len(found.to_wrong) == sum(a - b for b, a in rows)
    assert len(found.to_right) + len(found.to_wrong) + found.stayed == len(rows)
