"""A feed for other tools: full precision in CSV and Parquet, and the two files that olmix fits on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from samples import feed, measurement, vector

from harness import Feed
from harness.core.errors import DataError, StateError
from harness.feed.export import write_csv, write_olmix, write_parquet

AWKWARD = [-0.1, -1 / 3, -2.0000000000000004, -5e-324]
MIXED = Feed(
    [
        vector({"code": raw, "prose": raw * 2}, step=step, trajectory=name, mixture=mixture)
        for name, step, raw, mixture in [
            ("a", 10, -1.0, {"code": 0.3, "prose": 0.7}),
            ("a", 20, -1 / 3, {"code": 3.0, "web": 1.0}),
            ("b", 10, -2.0, {"prose": 0.1}),
        ]
    ]
)


def test_csv_keeps_every_bit_of_every_number(tmp_path: Path) -> None:
    written = feed(*[{"code": raw} for raw in AWKWARD], mixture={"x": 0.1, "y": 0.2})
    path = write_csv(written, tmp_path / "new" / "rewards.csv")
    frame = pd.read_csv(path, float_precision="round_trip")
    assert frame["code"].tolist() == AWKWARD
    assert frame["scalar"].tolist() == [v.scalar for v in written]
    assert frame["step"].tolist() == [0, 10, 20, 30]
    assert frame["mixture.y"].tolist() == [0.2] * 4


def test_parquet_is_the_same_table(tmp_path: Path) -> None:
    written = feed(*[{"code": raw} for raw in (*AWKWARD, None)])
    frame = pd.read_parquet(write_parquet(written, tmp_path / "rewards.parquet"))
    pd.testing.assert_frame_equal(frame, written.to_pandas())
    assert math.isnan(frame["code"].iloc[-1])
    assert frame["code.status"].iloc[-1] == "failed"


def test_olmix_gets_ratios_and_bits_per_byte_joined_on_run_id(tmp_path: Path) -> None:
    paths = write_olmix(MIXED, tmp_path / "olmix")
    assert [path.name for path in paths] == ["ratios.csv", "metrics.csv"]
    ratios, metrics = (pd.read_csv(path, float_precision="round_trip") for path in paths)
    assert ratios.columns.tolist() == ["run_id", "code", "prose", "web"]
    assert metrics.columns.tolist() == ["run_id", "code_bpb", "prose_bpb"]
    assert ratios["run_id"].tolist() == metrics["run_id"].tolist() == ["a-step10", "a-step20", "b-step10"]
    assert np.allclose(ratios[["code", "prose", "web"]].sum(axis=1), 1.0, atol=1e-12)
    assert ratios.loc[1, ["code", "prose", "web"]].tolist() == [0.75, 0.0, 0.25]
    assert metrics["code_bpb"].tolist() == [v.components[0].detail["bits_per_byte"] for v in MIXED]
    assert (metrics["prose_bpb"] > 0).all(), "bits per byte: lower is better, the sign of a log-prob turned round"


def test_olmix_gets_a_step_measured_again_once(tmp_path: Path) -> None:
    again = vector({"code": -9.0, "prose": -9.0}, step=10, trajectory="a", mixture={"code": 1.0})
    ratios, metrics = (pd.read_csv(path) for path in write_olmix(Feed([*MIXED, again]), tmp_path))
    assert sorted(ratios["run_id"]) == sorted(metrics["run_id"]) == ["a-step10", "a-step20", "b-step10"]
    assert metrics.set_index("run_id").loc["a-step10", "code_bpb"] == 3.0


def test_olmix_gets_an_empty_cell_for_what_failed(tmp_path: Path) -> None:
    failed = vector({"code": None, "prose": -1.0}, step=30, trajectory="b", mixture={"code": 1.0})
    _, path = write_olmix(Feed([*MIXED, failed]), tmp_path)
    assert pd.read_csv(path)["code_bpb"].isna().tolist() == [False, False, False, True]


def test_olmix_names_a_vector_without_step_by_its_trajectory(tmp_path: Path) -> None:
    path, _ = write_olmix(Feed([vector({"code": -1.0}, step=None, mixture={"x": 1.0})]), tmp_path)
    assert path.read_text() == "run_id,x\na,1.0\n"


def test_olmix_without_a_mixture_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"trajectory c step 0 carries no mixture, .* mixture.json"):
        write_olmix(Feed([*MIXED, vector({"code": -1.0, "prose": -1.0}, trajectory="c")]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_olmix_without_bits_per_byte_is_refused(tmp_path: Path) -> None:
    rows: list[Any] = [{"reward": measurement(0.4, metric="reward", detail={})}]
    with pytest.raises(DataError, match="no component of the feed is measured in bits per byte"):
        write_olmix(feed(*rows, mixture={"x": 1.0}), tmp_path)


@pytest.mark.parametrize("write", [write_csv, write_parquet, write_olmix])
def test_an_empty_feed_has_nothing_to_export(write: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to export"):
        write(Feed([]), tmp_path / "x")


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot write"):
        write_csv(MIXED, tmp_path / "file" / "rewards.csv")
