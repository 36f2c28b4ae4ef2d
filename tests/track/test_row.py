"""What trackers get of a vector: stable names, nothing in place of what is missing, no key."""

from __future__ import annotations

import math

import pytest
from samples import feed, measurement, seen, vector

from harness.track.row import COLUMNS, markdown, row_of


def test_every_number_of_a_vector_has_its_name() -> None:
    last = seen(feed({"code": -2.0, "prose": -3.0}, {"code": -1.5, "prose": -3.5}, mixture={"x": 1, "y": 3})[-1], 900)
    metrics = row_of(last).metrics
    assert metrics["reward/code"] == -1.5
    assert metrics["error/code"] == 0.1
    assert metrics["scalar"] == last.scalar
    assert metrics["gain/scalar"] == last.gain
    assert metrics["change/code"] == 0.5
    assert metrics["mixture/y"] == 0.75
    assert metrics["tokens_seen"] == 900
    assert metrics["failed"] == 0


def test_a_failed_component_has_no_number_and_stands_in_the_table_with_its_cause() -> None:
    row = row_of(vector({"code": -2.0, "prose": None}))
    assert not [name for name in row.metrics if name.endswith("/prose")]
    assert "scalar" not in row.metrics
    assert row.metrics["failed"] == 1
    cells = dict(zip(COLUMNS, row.table[1], strict=True))
    assert cells["raw"] is None
    assert cells["reason"] == "the checkpoint is broken"
    assert all(math.isfinite(value) for value in row.metrics.values())


def test_a_checkpoint_without_a_step_stands_at_0() -> None:
    assert row_of(vector({"code": -2.0}, step=None)).step == 0


def test_a_row_is_another_one_when_it_was_measured_again_and_the_same_when_it_only_took_longer() -> None:
    one = vector({"code": -2.0})
    slower = one.model_copy(update={"provenance": one.provenance.model_copy(update={"seconds": 99.0})})
    assert row_of(slower) == row_of(one)
    assert row_of(vector({"code": -2.1})).mark != row_of(one).mark


def test_a_key_of_the_environment_is_in_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVER_API_KEY", "sk-9f8e7d6c5b4a")
    failed = measurement(None).model_copy(update={"reason": "401 for key sk-9f8e7d6c5b4a"})
    row = row_of(vector({"code": failed}))
    assert "sk-9f8e7d6c5b4a" not in str(row)
    assert "401 for key ***" in markdown(row.table)


def test_a_reason_with_a_bar_or_a_line_break_stays_in_its_cell() -> None:
    failed = measurement(None).model_copy(update={"reason": "a | b\nc"})
    last = markdown(row_of(vector({"code": failed})).table).splitlines()
    assert len(last) == 3
    assert last[-1].endswith("| a \\| b c |")
