"""The frozen reference: fitted over all steps of all trajectories, with an identity that travels with every vector."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import feed, vector

from harness.core.errors import DataError, SpecError
from harness.core.vector import RewardVector
from harness.reward_models.reference import Reference, fit_reference, parse_reference
from harness.reward_models.vector import Standardization

TWO = feed({"code": -1.0, "prose": -2.0}, {"code": -3.0, "prose": -4.5})


def fitted() -> Reference:
    return fit_reference(list(TWO))


def as_json(reference: Reference) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(reference.model_dump_json(by_alias=True))
    return value


def test_fitted_over_all_steps_of_all_trajectories_with_ddof_0() -> None:
    raws = [[-1.0, -2.0, -4.0], [-3.0, -7.0]]
    vectors = [
        v
        for name, values in zip("ab", raws, strict=True)
        for v in feed(*[{"code": x} for x in values], trajectory=name)
    ]
    reference = fit_reference(vectors)
    code = reference.component("code")
    assert code is not None
    everything = [raw for values in raws for raw in values]
    assert (code.mean, code.std) == (np.mean(everything), pytest.approx(np.std(everything)))
    assert (code.n, reference.n) == (5, 5)
    assert (code.metric, code.definition) == ("logprob_per_token", "sha256:code")


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12).filter(lambda raws: max(raws) - min(raws) > 1e-6))
def test_what_it_was_fitted_on_standardises_to_mean_0_and_deviation_1(raws: list[float]) -> None:
    vectors = list(feed(*[{"code": raw} for raw in raws]))
    standardization = Standardization(mode="frozen", reference=fit_reference(vectors))
    z = [vector({"code": raw}, standardization=standardization).standardized[0] for raw in raws]
    assert np.mean(np.array(z, dtype=float)) == pytest.approx(0, abs=1e-6)
    assert np.std(np.array(z, dtype=float)) == pytest.approx(1)


def test_a_failed_measurement_is_left_out_and_counted() -> None:
    reference = fit_reference(list(feed({"code": -1.0}, {"code": None}, {"code": -3.0})))
    code = reference.component("code")
    assert code is not None
    assert (code.mean, code.std, code.n, reference.n) == (-2.0, 1.0, 2, 3)


def test_zero_variance_is_fitted_as_such() -> None:
    code = fit_reference(list(feed(*[{"code": 0.1}] * 3))).component("code")
    assert code is not None
    assert (code.mean, code.std) == (0.1, 0.0)


def test_it_survives_json_bit_for_bit() -> None:
    reference = fit_reference(list(feed(*[{"code": x} for x in (-0.1, -1 / 3, -2e-17)])))
    assert parse_reference(as_json(reference), "ref.json") == reference


def test_the_id_is_the_content_and_the_order_of_components_does_not_matter() -> None:
    assert fitted().id == fitted().id
    turned = feed({"prose": -2.0, "code": -1.0}, {"prose": -4.5, "code": -3.0})
    assert fit_reference(list(turned)).id == fitted().id
    mixed = [TWO[0], turned[1]]
    assert fit_reference(mixed).id == fitted().id
    value = as_json(fitted())
    value["components"].reverse()
    assert parse_reference(value, "ref.json").id == fitted().id


@pytest.mark.parametrize("change", ["raw", "definition", "one more"])
def test_the_id_changes_with_the_content(change: str) -> None:
    rows = [{"code": -1.0, "prose": -2.0}, {"code": -3.0, "prose": -4.5}]
    definitions = {"code": "sha256:code", "prose": "sha256:prose"}
    if change == "raw":
        rows[0]["code"] = -1.0000000000000002
    elif change == "definition":
        definitions["code"] = "sha256:other"
    else:
        rows.append({"code": -2.0, "prose": -3.25})
    assert fit_reference(list(feed(*rows, definitions=definitions))).id != fitted().id


@pytest.mark.parametrize(
    ("place", "value"),
    [(("components", 0, "mean"), -2.1), (("components", 0, "std"), 2.0), (("n",), 9), (("id",), "sha256:0")],
)
def test_an_edited_file_is_refused(place: tuple[str | int, ...], value: Any) -> None:
    edited: Any = as_json(fitted())
    target = edited
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    with pytest.raises(DataError, match=r"ref.json is not a valid reference: its id does not match"):
        parse_reference(edited, "ref.json")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "schema is None"),
        ({"schema": "harness.reference/2"}, "schema is 'harness.reference/2', expected 'harness.reference/1'"),
        ({"schema": "harness.reference/1"}, "id: Field required"),
        ({**as_json(fitted()), "components": [{"name": "code"}]}, "components.0.metric: Field required"),
        ({**as_json(fitted()), "mode": "x"}, "mode: Extra inputs"),
    ],
)
def test_what_is_no_reference_is_refused_with_the_place(value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_reference(value, "ref.json")


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([], "no reward vectors"),
        ([TWO[0]], "'code' was measured 1 time"),
        (list(feed({"code": -1.0}, {"code": None})), "'code' was measured 1 time"),
        ([TWO[0], vector({"code": -1.0}, step=5)], "step 5 has components code, .* has code, prose"),
        (
            [
                TWO[0],
                vector({"code": -1.0, "prose": -2.0}, definitions={"code": "sha256:new", "prose": "sha256:prose"}),
            ],
            "measure different things as 'code': its field, template or revision changed",
        ),
    ],
)
def test_what_cannot_be_fitted_is_refused(vectors: list[RewardVector], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit_reference(vectors)


def test_what_a_spec_varies_is_said_to_be_the_reason() -> None:
    first, second = (
        vector({"code": -1.0}, definitions={"code": definition}).model_copy(update={"variables": {"alpha": alpha}})
        for alpha, definition in enumerate(("sha256:alpha=0", "sha256:alpha=1"))
    )
    with pytest.raises(
        DataError, match="measure different things as 'code': their spec varies it; a reference is of one"
    ):
        fit_reference([first, second])


def test_a_reference_fitted_on_something_else_is_refused_before_scoring() -> None:
    standardization = Standardization(mode="frozen", reference=fitted())
    standardization.check({"code": "sha256:code"})
    standardization.check({"prose": "sha256:prose", "code": "sha256:code"})
    with pytest.raises(SpecError, match=r"no component 'math' \(it has code, prose\)"):
        standardization.check({"math": "sha256:math"})
    with pytest.raises(SpecError, match="fitted on another 'code'"):
        standardization.check({"code": "sha256:changed"})
