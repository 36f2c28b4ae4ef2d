"""Which runs were trained on one mixture: by what they were trained on, whatever they are called."""

from __future__ import annotations

import pytest
from samples import seen, vector

from harness import Feed
from harness.core.errors import DataError
from harness.feed.recipes import Recipe, grouped, matched, recipe_of
from harness.feed.runs import NoShares, runs_of


def recipe(*told: tuple[float, int]) -> Recipe:
    """Of a run whose steps have a share of code, and tokens seen."""
    vectors = [
        seen(vector({"code": -1.0}, step=step, mixture={"code": share, "prose": 1 - share}), tokens)
        for step, (share, tokens) in enumerate(told, start=1)
    ]
    (run,) = runs_of(Feed(vectors))
    found = recipe_of(run)
    assert not isinstance(found, NoShares)
    return found


def test_runs_on_one_mixture_are_one_whatever_their_length_or_their_names() -> None:
    small, large = recipe((0.3, 10), (0.3, 20)), recipe((0.3002, 10_000))
    assert small.same(large) and len(small.turns) == 1
    assert not small.same(recipe((0.31, 10)))


def test_domains_that_one_of_both_does_not_name_have_no_share() -> None:
    (run,) = runs_of(Feed([vector({"code": -1.0}, mixture={"code": 1.0, "web": 0.0})]))
    found = recipe_of(run)
    assert not isinstance(found, NoShares) and found.same(recipe((1.0, 5)))


def test_a_mixture_that_changes_is_another_than_its_average() -> None:
    turned, back = recipe((1.0, 10), (0.0, 20)), recipe((0.0, 10), (1.0, 20))
    constant = recipe((0.5, 20))
    assert turned.total == constant.total == back.total
    assert not turned.same(constant) and not turned.same(back)
    assert turned.same(recipe((1.0, 50), (1.0, 100), (0.0, 150), (0.0, 200)))
    assert "in 2 turns" in str(turned)


def test_groups_are_numbered_in_order_and_unclear_ones_refused_by_name() -> None:
    recipes = [recipe((share, 5)) for share in (0.3, 0.6, 0.3003, 0.6)]
    assert grouped(recipes, ["a", "b", "c", "d"]) == [0, 1, 0, 1]
    chain = [recipe((share, 5)) for share in (0.3, 0.3008, 0.3004)]
    for order in ([0, 1, 2], [0, 2, 1], [2, 0, 1]):
        with pytest.raises(DataError, match=r"may or may not be one mixture.*round the shares"):
            grouped([chain[i] for i in order], ["a", "b", "c"])


def test_mixtures_of_two_scales_are_matched_and_unclear_ones_refused_by_name() -> None:
    first, second = ([recipe((share, 5)) for share in shares] for shares in ((0.3, 0.6), (0.6, 0.9, 0.3)))
    assert matched(first, second, (["a", "b"], ["x", "y", "z"])) == [2, 0]
    assert matched(second, first, (["x", "y", "z"], ["a", "b"])) == [1, None, 0]
    near = [recipe((share, 5)) for share in (0.3, 0.3008)]
    middle = [recipe((0.3004, 5))]
    with pytest.raises(DataError, match=r"m .* may be a or b"):
        matched(middle, near, (["m"], ["a", "b"]))
    with pytest.raises(DataError, match=r"m may be a or b"):
        matched(near, middle, (["a", "b"], ["m"]))


def test_a_run_whose_mixture_is_not_known_has_no_recipe() -> None:
    vectors = [
        vector({"code": -1.0}, step=step, mixture=mixture) for step, mixture in ((1, {"a": 1.0}), (2, {"b": 1.0}))
    ]
    (run,) = runs_of(Feed(vectors))
    found = recipe_of(run)
    assert isinstance(found, NoShares) and found.started
