"""Holm's adjustment: by hand, never below the plain p, and at most one false finding in twenty families."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.reward_models.holm import holm

PS = st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=12)


def test_by_hand_ties_order_and_what_has_no_p_included() -> None:
    assert holm([0.01, None, 0.04, 0.03, 0.005]) == pytest.approx([0.03, None, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


@given(PS)
def test_adjusted_values_keep_the_order_and_are_never_below_the_plain_ones(ps: list[float | None]) -> None:
    made = holm(ps)
    assert [one is None for one in made] == [one is None for one in ps]
    known = sorted((p, q) for p, q in zip(ps, made, strict=True) if p is not None and q is not None)
    assert all(p <= q <= 1 for p, q in known)
    assert [q for _, q in known] == sorted(q for _, q in known)


@given(PS.filter(lambda ps: any(p is not None for p in ps)))
def test_the_smallest_is_bonferronis_and_the_largest_is_its_own_or_above(ps: list[float | None]) -> None:
    known = [p for p in ps if p is not None]
    made = [q for q in holm(ps) if q is not None]
    assert min(made) == pytest.approx(min(1.0, len(known) * min(known)))


def test_the_family_errs_in_five_percent_whichever_of_the_others_are_true() -> None:
    rng = np.random.default_rng(0)
    wrong = found = 0
    for _ in range(4000):
        ps = rng.random(12)
        ps[:4] *= 1e-6  # changes that are there
        adjusted = [q for q in holm(ps.tolist()) if q is not None]
        wrong += min(adjusted[4:]) <= 0.05
        found += max(adjusted[:4]) <= 0.05
    assert 0.040 < wrong / 4000 < 0.060, "eight that are not there: at 5%, not at Bonferroni's 3.3%"
    assert found == 4000
