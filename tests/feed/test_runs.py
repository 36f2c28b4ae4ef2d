"""What a run was trained on from its start: weighted by tokens, and told to be unknown where it is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import seen, varied, vector

from harness import Feed
from harness.core.errors import DataError
from harness.feed.runs import NoShares, check_alike, runs_of, shares_up_to

Told = list[tuple[int | None, dict[str, float] | None, int | None]]
"""Step, mixture, tokens seen."""


def run_of(told: Told) -> Any:
    vectors = [seen(vector({"code": -1.0}, step=step, mixture=mixture), tokens) for step, mixture, tokens in told]
    (run,) = runs_of(Feed(vectors))
    return run


def shares(told: Told) -> list[Any]:
    return [one.reason if isinstance(one, NoShares) else one for one in shares_up_to(run_of(told))]


CODE, PROSE = {"code": 1.0}, {"prose": 1.0}


def test_the_mixture_up_to_a_step_is_weighted_by_the_tokens_of_each_step() -> None:
    first, second, third = shares([(1, CODE, 100), (2, PROSE, 400), (5, {"code": 1, "prose": 1}, 500)])
    assert first == {"code": 1.0}
    assert second == {"code": 0.25, "prose": 0.75}
    assert third == pytest.approx({"code": 150 / 500, "prose": 350 / 500})


@given(st.lists(st.tuples(st.integers(0, 10**12), st.floats(0, 1)), min_size=1, max_size=12))
def test_shares_sum_to_one_whatever_the_tokens(steps: list[tuple[int, float]]) -> None:
    total, told = 0, []
    for index, (tokens, share) in enumerate(steps, start=1):
        total += tokens
        told.append((index, {"code": share, "prose": 1 - share}, total))
    for one in shares_up_to(run_of(told)):
        if isinstance(one, NoShares):
            assert not one.started
        else:
            assert sum(one.values()) == pytest.approx(1.0)
            assert all(-1e-12 <= share <= 1 + 1e-12 for share in one.values())


def test_tokens_do_not_matter_while_the_mixture_stays() -> None:
    assert shares([(1, CODE, None), (2, {"code": 7.0}, None), (3, CODE, 9)]) == [{"code": 1.0}] * 3


def test_where_the_mixture_changes_the_step_that_does_not_tell_its_tokens_is_named() -> None:
    known, unknown, later = shares([(1, CODE, 100), (2, PROSE, None), (3, PROSE, 300)])
    assert known == {"code": 1.0}
    assert (
        unknown.startswith("trajectory a step 2 does not say how many tokens it has seen") and "tokens_seen" in unknown
    )
    assert later == unknown
    assert shares([(1, CODE, None), (2, PROSE, 300)])[1].startswith("trajectory a step 1 does not say")


def test_a_step_without_a_mixture_is_named_unless_no_token_was_seen_in_it() -> None:
    assert (
        shares([(1, CODE, 100), (2, None, 200), (3, CODE, 300)])[1:]
        == [
            "trajectory a step 2 carries no mixture, so what the run was trained on is not known; put a mixture.json beside "
            "its weights and score again (nothing is measured twice), or pass mixture= to feedback()"
        ]
        * 2
    )
    assert shares([(1, CODE, 100), (2, None, 100), (3, CODE, 300)]) == [{"code": 1.0}] * 3


def test_a_run_starts_at_a_step_0_without_a_mixture() -> None:
    start, trained, changed = shares_up_to(run_of([(0, None, 1000), (1, CODE, 1100), (2, PROSE, 1400)]))
    assert isinstance(start, NoShares) and not start.started
    assert trained == {"code": 1.0}
    assert changed == {"code": 0.25, "prose": 0.75}
    assert shares([(0, None, None), (1, CODE, 100), (2, PROSE, 400)])[2] == changed
    assert shares([(0, CODE, 100), (1, PROSE, 400)])[1] == changed, "a step 0 with a mixture was trained on it"


def test_tokens_that_become_fewer_are_named() -> None:
    assert "step 2 has seen 50 tokens, fewer than the step before (100)" in shares([(1, CODE, 100), (2, PROSE, 50)])[1]


def test_the_values_of_what_a_spec_varies_are_columns_of_one_run() -> None:
    vectors = []
    for alpha in (0, 0.5):
        for step in (10, 20):
            definitions = {"code": f"sha256:{alpha}", "prose": "sha256:prose"}
            one = vector({"code": -alpha, "prose": -2.0}, step=step, mixture={"x": 1.0}, definitions=definitions)
            vectors.append(varied(one, alpha=alpha))
    (run,) = runs_of(Feed(vectors))
    assert (run.name, [step.step for step in run.steps]) == ("a", [10, 20])
    assert {name: c.raw for name, c in run.last.components.items()} == {
        "code[alpha=0]": 0.0,
        "prose": -2.0,
        "code[alpha=0.5]": -0.5,
    }
    check_alike([run])
    vectors[0] = vectors[0].model_copy(update={"mixture": vector({"code": 0}, mixture={"y": 1.0}).mixture})
    with pytest.raises(DataError, match=r"trajectory a.* step 10 has two mixtures"):
        runs_of(Feed(vectors))


def test_runs_that_measured_different_things_are_refused_by_name() -> None:
    other = vector({"code": -1.0}, trajectory="b", definitions={"code": "sha256:new"})
    with pytest.raises(
        DataError, match="trajectory b step 0 and trajectory a step 0 measured different things as 'code'"
    ):
        check_alike(runs_of(Feed([vector({"code": -1.0}), other])))
    tokenizers = [
        one.model_copy(update={"checkpoint": one.checkpoint.model_copy(update={"tokenizer": tokenizer})})
        for one, tokenizer in ((vector({"code": -1.0}), "t1"), (vector({"code": -1.0}, trajectory="b"), "t2"))
    ]
    with pytest.raises(DataError, match="trajectory b step 0 and trajectory a step 0 have different tokenizers"):
        check_alike(runs_of(Feed(tokenizers)))
