"""A measurement is never a bare float, and a failure is a value too."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from samples import measurement

from harness.core.measurement import Measurement, failed


def test_a_failed_measurement_has_no_value_and_a_reason() -> None:
    value = failed("reward", "the server did not answer", n_items=3, higher_is_better=False)
    assert (value.raw, value.stderr, value.status, value.n_scored, value.n_items) == (None, None, "failed", 0, 3)
    assert value.reason == "the server did not answer"
    assert not value.higher_is_better


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"raw": None}, "does not go with raw None"),
        ({"status": "failed", "reason": "x"}, "does not go with raw -2.5"),
        ({"raw": None, "status": "failed"}, "needs a reason"),
        ({"raw": None, "status": "failed", "reason": ""}, "needs a reason"),
        ({"n_scored": 11, "status": "partial"}, "exceeds n_items"),
        ({"n_scored": 9}, "9 of 10"),
        ({"n_items": -1}, "greater than or equal to 0"),
        ({"stderr": -0.1}, "greater than or equal to 0"),
        ({"unknown": 1}, "Extra inputs"),
        ({"status": "great"}, "Input should be 'ok', 'partial' or 'failed'"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Measurement.model_validate({**measurement().model_dump(), **changes})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", ["raw", "stderr", "detail", "deep detail"])
def test_nan_and_infinity_are_refused_everywhere(bad: float, place: str) -> None:
    changes: dict[str, Any] = {place: bad}
    if place == "detail":
        changes = {"detail": {"bits_per_byte": bad}}
    if place == "deep detail":
        changes = {"detail": {"breakdown": [{"mean": [1.0, bad]}]}}
    with pytest.raises(ValidationError, match="finite number"):
        measurement(**changes)


def test_a_measurement_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        measurement().raw = 0.0


def test_whole_numbers_become_floats() -> None:
    value = Measurement.model_validate({**measurement().model_dump(), "raw": -3})
    assert isinstance(value.raw, float)
