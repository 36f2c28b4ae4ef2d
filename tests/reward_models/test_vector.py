"""From measurements to a vector: standardisation modes, Eq. 6 by hand, and null, never NaN, where nothing is defined."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import NONE, feed, measurement, vector

from harness.core.measurement import failed
from harness.core.vector import RewardVector
from harness.feed.lines import parse_vector
from harness.reward_models.reference import fit_reference
from harness.reward_models.vector import Standardization

RAWS = st.lists(st.one_of(st.none(), st.floats(-100, 100)), min_size=1, max_size=8)
FROZEN = Standardization(
    mode="frozen", reference=fit_reference(list(feed({"code": -1.0, "prose": -2.0}, {"code": -3.0, "prose": -6.0})))
)
"""code: mean -2, std 1; prose: mean -4, std 2."""


def test_mode_none_standardises_nothing_and_warns_of_nothing() -> None:
    value = feed({"code": -1.0}, {"code": -2.0}, standardization=NONE)[1]
    component = value.components[0]
    assert (component.standardized, component.shrunk, component.reliability) == (None, None, None)
    assert value.reference.model_dump() == {"id": None, "mode": "none", "mean": [None], "std": [None], "n": 0}
    assert value.warnings == []
    assert (value.scalar, value.gain) == (-2.0, -1.0)


def test_mode_frozen_uses_the_reference_whatever_was_measured_before() -> None:
    value = feed({"code": 7.0, "prose": 7.0}, {"code": -1.0, "prose": -8.0}, standardization=FROZEN)[1]
    assert value.standardized == [1.0, -2.0]
    assert [c.reliability for c in value.components] == [None, None], (
        "items say what is noise, a standard error does not"
    )
    assert FROZEN.reference is not None
    assert value.reference.model_dump() == {
        "id": FROZEN.reference.id,
        "mode": "frozen",
        "mean": [-2.0, -4.0],
        "std": [1.0, 2.0],
        "n": 2,
    }


def test_the_reference_is_read_by_name_so_components_may_stand_in_another_order() -> None:
    assert vector({"prose": -8.0, "code": -1.0}, standardization=FROZEN).standardized == [-2.0, 1.0]


@given(RAWS)
def test_mode_running_standardises_by_the_list_so_far_as_in_algorithm_2(raws: list[float | None]) -> None:
    for index, value in enumerate(feed(*[{"code": raw} for raw in raws])):
        so_far = [raw for raw in raws[: index + 1] if raw is not None]
        z = value.standardized[0]
        if raws[index] is None or len(so_far) < 2 or len(set(so_far)) == 1:
            assert z is None
        elif z is not None and np.std(so_far) > 1e-9:
            assert z == pytest.approx((so_far[-1] - np.mean(so_far)) / np.std(so_far), rel=1e-6, abs=1e-6)
        assert value.reference.n == index + 1


def test_running_statistics_take_only_earlier_steps_whatever_the_order_of_scoring() -> None:
    in_order = list(feed({"code": -3.0}, {"code": -2.0}, {"code": -1.0}))
    late = vector({"code": -2.0}, step=10, history=[in_order[0], in_order[2]])
    assert late.standardized == in_order[1].standardized
    assert late.gain == in_order[1].gain
    assert late.reference == in_order[1].reference


def test_running_statistics_take_only_vectors_of_this_spec() -> None:
    other = vector({"code": -9.0}, step=0, spec="sha256:other")
    same = vector({"code": -3.0}, step=1, history=[other])
    value = vector({"code": -1.0}, step=2, history=[other, same])
    assert value.reference.mean == [-2.0]
    assert value.reference.n == 2


def test_of_a_step_measured_again_the_latest_stands() -> None:
    first = vector({"code": -9.0}, step=1)
    again = vector({"code": -3.0}, step=1)
    value = vector({"code": -1.0}, step=2, history=[first, again])
    assert value.reference.mean == [-2.0]
    assert value.reference.n == 2
    assert value.gain == 2.0
    repeated = vector({"code": -1.0}, step=1, history=[first])
    assert repeated.reference.n == 1, "a step is not its own past"
    assert repeated.gain is None


def test_one_checkpoint_has_no_running_standardisation_and_says_so() -> None:
    value = vector({"code": -1.0, "prose": None})
    assert value.standardized == [None, None]
    assert "code: standardized is null, measured on 1 checkpoint so far; two are needed" in value.warnings
    assert not any(warning.startswith("prose") for warning in value.warnings), "its status says what is wrong"


@pytest.mark.parametrize("raw", [0.1, -2.3, 0.0])
def test_a_component_that_does_not_vary_is_null_and_says_so(raw: float) -> None:
    value = feed(*[{"code": raw}] * 3)[2]
    assert value.standardized == [None]
    assert value.reference.std == [0.0]
    assert value.components[0].reliability is None
    assert value.components[0].shrunk is None
    assert value.warnings == ["code: standardized is null, its standard deviation is 0"]
    assert value.gain == 0.0


def test_scalar_and_gain_are_eq_6_with_equal_weights() -> None:
    before, after = feed({"code": -1.0, "prose": -2.0}, {"code": -0.5, "prose": -2.25})
    assert before.scalar == 0.5 * -1.0 + 0.5 * -2.0
    assert after.scalar == 0.5 * -0.5 + 0.5 * -2.25
    assert after.gain == after.scalar - before.scalar
    assert before.gain is None


def test_scalar_and_gain_with_given_weights() -> None:
    before, after = feed({"code": -1.0, "prose": -2.0}, {"code": -0.5, "prose": -2.25}, weights=[2.0, 0.25])
    assert before.scalar == -2.5
    assert after.scalar == -1.5625
    assert after.gain == 0.9375
    assert [component.weight for component in after.components] == [2.0, 0.25]


def test_lower_is_better_is_negated_in_z_scalar_and_gain() -> None:
    def row(loss: float) -> dict[str, float]:
        return {"loss": measurement(loss, higher_is_better=False)}

    history: list[RewardVector] = []
    for step, loss in enumerate([3.0, 1.0]):
        history.append(vector(row(loss), step=step, history=history))
    assert history[1].standardized == [1.0]
    assert history[1].scalar == -1.0
    assert history[1].gain == 2.0
    assert history[1].vector == [1.0], "raw stays as it was measured"


def test_a_component_of_weight_zero_does_not_count_even_when_it_is_missing() -> None:
    before, after = feed({"code": -1.0, "watch": -2.0}, {"code": -0.5, "watch": None}, weights=[1.0, 0.0])
    assert (before.scalar, after.scalar, after.gain) == (-1.0, -0.5, 0.5)
    assert not any("scalar" in warning for warning in after.warnings)


def test_a_missing_component_leaves_scalar_and_gain_null_and_is_named() -> None:
    rows = [
        {"code": -1.0, "prose": -2.0, "x": -1.0},
        {"code": None, "prose": -2.0, "x": None},
        {"code": -1.0, "prose": -2.0, "x": -1.0},
    ]
    first, second, third = feed(*rows, weights=[1.0, 1.0, 0.0])
    assert first.scalar == -3.0
    assert (second.scalar, second.gain, second.status) == (None, None, "partial")
    assert "scalar is null: code missing" in second.warnings
    assert third.scalar == -3.0
    assert third.gain is None
    assert "gain is null: trajectory a step 10 has no scalar" in third.warnings


def test_the_gain_is_against_the_highest_earlier_step_even_out_of_order() -> None:
    history = [vector({"code": raw}, step=step) for step, raw in [(30, -3.0), (10, -10.0), (20, -20.0), (50, -50.0)]]
    assert vector({"code": -1.0}, step=40, history=history).gain == 2.0
    assert vector({"code": -1.0}, step=25, history=history).gain == 19.0
    assert vector({"code": -1.0}, step=5, history=history).gain is None


def test_step_zero_is_an_earlier_step() -> None:
    assert vector({"code": -1.0}, step=1, history=[vector({"code": -2.0}, step=0)]).gain == 1.0


def test_without_a_step_there_is_no_gain() -> None:
    numbered = vector({"code": -1.0}, step=1)
    final = vector({"code": -2.0}, step=None, history=[numbered])
    assert (final.gain, final.step) == (None, None)
    assert vector({"code": -1.0}, step=2, history=[final]).gain is None


def test_no_gain_across_a_changed_spec_or_changed_content_and_it_says_so() -> None:
    before = vector({"code": -1.0}, step=1, spec="sha256:before")
    after = vector({"code": -0.5}, step=2, history=[before], spec="sha256:after")
    assert after.gain is None
    assert "gain is null: trajectory a step 1 was measured with another spec or other field content" in after.warnings


@pytest.mark.parametrize(
    ("raws", "status"),
    [((-1.0, -2.0), "ok"), ((-1.0, None), "partial"), ((None, None), "failed")],
)
def test_the_status_of_a_vector_sums_up_its_components(raws: tuple[float | None, ...], status: str) -> None:
    assert vector({"code": raws[0], "prose": raws[1]}).status == status


def test_a_partial_component_makes_a_partial_vector() -> None:
    assert vector({"code": measurement(n_scored=9, status="partial"), "prose": -1.0}).status == "partial"


def test_a_failed_component_keeps_its_cause_and_its_place() -> None:
    value = vector({"code": failed("logprob_per_token", "out of memory", n_items=7), "prose": -1.0})
    assert value.vector == [None, -1.0]
    assert (value.components[0].reason, value.components[0].n_items) == ("out of memory", 7)


@given(
    st.lists(st.tuples(*[st.one_of(st.none(), st.floats(-100, 100))] * 2), min_size=1, max_size=6),
    st.lists(st.floats(-10, 10), min_size=2, max_size=2),
    st.sampled_from(["none", "running", "frozen"]),
)
def test_whatever_is_measured_the_vector_is_valid_json_and_adds_up(
    rows: list[tuple[float | None, float | None]], weights: Sequence[float], mode: str
) -> None:
    standardization = {"none": NONE, "running": Standardization(mode="running"), "frozen": FROZEN}[mode]
    vectors = feed(
        *[{"code": code, "prose": prose} for code, prose in rows], weights=weights, standardization=standardization
    )
    for index, value in enumerate(vectors):
        assert parse_vector(json.loads(value.to_line(), parse_constant=pytest.fail), "line") == value
        counted = [(w, c.raw) for w, c in zip(weights, value.components, strict=True) if w != 0]
        if any(raw is None for _, raw in counted):
            assert value.scalar is None
        else:
            assert value.scalar == pytest.approx(sum(w * (raw or 0.0) for w, raw in counted))
        previous = vectors[index - 1].scalar if index else None
        if value.scalar is None or previous is None:
            assert value.gain is None
        else:
            assert value.gain == value.scalar - previous
