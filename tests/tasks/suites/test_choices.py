"""The probabilities of choices: the definitions of the family, and what stays a number where a float would be 0."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.tasks.suites.choices import CHOICE_METRICS, Choice, choice_metrics


def choice(p: float, *, n_tokens: int = 1, n_chars: int = 1, right: bool = False) -> Choice:
    return Choice(nats=math.log(p), n_tokens=n_tokens, n_chars=n_chars, right=right)


def test_each_metric_is_what_its_name_says() -> None:
    made = choice_metrics([choice(0.16, n_tokens=2, n_chars=4, right=True), choice(0.09, n_tokens=2), choice(0.01)])
    assert set(made) == set(CHOICE_METRICS) and len(CHOICE_METRICS) == 12
    assert made["correct_prob"] == pytest.approx(0.16)
    assert made["total_prob"] == pytest.approx(0.26)
    assert made["norm_correct_prob"] == pytest.approx(0.16 / 0.26)
    assert made["margin"] == pytest.approx(0.07)
    assert made["correct_prob_per_token"] == pytest.approx(0.4)
    assert made["norm_correct_prob_per_token"] == pytest.approx(0.4 / 0.71)
    assert made["margin_per_token"] == pytest.approx(0.1)
    assert made["correct_prob_per_char"] == pytest.approx(0.16**0.25)
    assert made["total_prob_per_char"] == pytest.approx(0.16**0.25 + 0.1)


def test_several_right_choices_are_right_together_and_the_best_of_them_has_the_margin() -> None:
    made = choice_metrics([choice(0.2, right=True), choice(0.3), choice(0.1, right=True), choice(0.05)])
    assert made["correct_prob"] == pytest.approx(0.3)
    assert made["norm_correct_prob"] == pytest.approx(0.3 / 0.65)
    assert made["margin"] == pytest.approx(-0.1)


def test_the_share_of_texts_too_long_for_a_float_is_still_a_share() -> None:
    long = [Choice(nats=nats, n_tokens=900, n_chars=4000, right=nats == -2000.0) for nats in (-2000.0, -2001.0)]
    made = choice_metrics(long)
    assert made["correct_prob"] == 0.0 and made["norm_correct_prob"] == pytest.approx(1 / (1 + math.exp(-1)))


def test_what_needs_a_right_or_a_wrong_choice_is_missing_without() -> None:
    none, all_ = (choice_metrics([choice(0.2, right=right), choice(0.3, right=right)]) for right in (False, True))
    assert {name.partition("_per")[0] for name in none} == {"total_prob"}
    assert {name.partition("_per")[0] for name in all_} == {"total_prob", "correct_prob", "norm_correct_prob"}


@given(st.lists(st.tuples(st.floats(-3000, 0), st.integers(1, 50), st.booleans()), min_size=1, max_size=6))
def test_every_value_is_finite_and_within_its_range(drawn: list[tuple[float, int, bool]]) -> None:
    made = choice_metrics([Choice(nats=n, n_tokens=t, n_chars=2 * t, right=r) for n, t, r in drawn])
    for name, value in made.items():
        low, high = (
            (-1, 1) if name.startswith("margin") else (0, len(drawn) if name.startswith(("total", "correct")) else 1)
        )
        assert low <= value <= high + 1e-12
