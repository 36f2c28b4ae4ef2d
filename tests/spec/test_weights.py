"""Weights from a file: every component has one, they take the place of the spec's, and nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import SpecError
from harness.spec.prepared import prepare
from harness.spec.spec import Spec, default_spec
from harness.spec.weights import read_weights, weighted

NAMES = ("stdlib_code", "stdlib_prose")


def written(tmp_path: Path, value: Any) -> Path:
    path = tmp_path / "weights.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_weights_take_the_place_of_the_specs(tmp_path: Path) -> None:
    path = written(tmp_path, {"schema": "harness.weights/1", "weights": {"stdlib_prose": 0.0, "stdlib_code": 1.5}})
    spec = weighted(default_spec(), read_weights(path), where=str(path))
    assert isinstance(spec, Spec) and spec.weights() == [1.5, 0.0]
    assert [type(c) for c in spec.components] == [type(c) for c in default_spec().components]
    one, other = prepare(default_spec()), prepare(spec)
    assert one.rows[0].definitions == other.rows[0].definitions, "nothing is measured otherwise"
    assert one.digest != other.digest, "a run of other weights is another run"


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"stdlib_code": 1.0}, "w.json has no weight for stdlib_prose"),
        (dict.fromkeys((*NAMES, "more"), 1.0), "w.json has a weight for more, which the spec does not measure"),
        ({"stdlib_code": 1.0, "stdlib_prose": 1e-30}, "w.json: stdlib_prose: .*weight of common size"),
    ],
)
def test_weights_that_do_not_fit_the_spec_are_refused_by_name(weights: dict[str, float], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        weighted(default_spec(), weights, where="w.json")


@pytest.mark.parametrize(
    "value",
    [
        "{",
        "[]",
        {"code": 1.0},
        {"schema": "harness.weights/2", "weights": {"code": 1.0}},
        {"schema": "harness.weights/1", "weights": {}},
        {"schema": "harness.weights/1", "weights": {"code": "much"}},
        {"schema": "harness.weights/1", "weight": {"code": 1.0}},
        {"schema": "harness.weights/1", "weights": {"code": True}},
        {"schema": "harness.weights/1", "weights": {"code": "0.7"}},
        '{"schema": "harness.weights/1", "weights": {"code": NaN}}',
        '{"schema": "harness.weights/1", "weights": {"code": 0.7, "prose": 0.3, "code": 0.1}}',
        "[" * 100_000,
    ],
)
def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(SpecError, match=r"weights\.json"):
        read_weights(written(tmp_path, value))


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no weights at .*harness validate"):
        read_weights(tmp_path / "none.json")
