"""A feed for other tools: one table in full precision, with errors as columns, and what a run was trained on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from samples import feed, seen, vector

from harness import Feed
from harness.core.errors import DataError, StateError
from harness.feed.export import table, write_csv, write_parquet

AWKWARD = [-0.1, -1 / 3, -2.0000000000000004, -5e-324]
MIXED = Feed(
    [
        seen(vector({"code": raw, "prose": raw * 2}, step=step, trajectory=name, mixture=mixture), tokens)
        for name, step, raw, mixture, tokens in [
            ("a", 10, -1.0, {"code": 0.3, "prose": 0.7}, 100),
            ("a", 20, -1 / 3, {"code": 3.0, "web": 1.0}, 400),
            ("b", 10, -2.0, {"prose": 0.1}, None),
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
    pd.testing.assert_frame_equal(frame, written.to_pandas(errors=True))
    assert math.isnan(frame["code"].iloc[-1])
    assert frame["code.status"].iloc[-1] == "failed"


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_an_empty_feed_has_nothing_to_export(write: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to export"):
        write(Feed([]), tmp_path / "x")


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot write"):
        write_csv(MIXED, tmp_path / "file" / "rewards.csv")


def test_a_table_has_errors_and_what_each_run_was_trained_on_up_to_the_step() -> None:
    frame = table(MIXED)
    assert {"gain_stderr", "code.change_stderr", "code.low", "code.high", "code.n_clusters"} <= set(frame.columns)
    assert frame["rho.code"].fillna(0).tolist() == [0.3, 0.75, 0.0]
    assert frame["cumulative.code"].tolist() == pytest.approx([0.3, (100 * 0.3 + 300 * 0.75) / 400, 0.0])
    assert frame["cumulative.web"].tolist() == pytest.approx([0.0, 300 * 0.25 / 400, 0.0])


def test_the_last_rows_are_one_per_run_with_the_latest_vector() -> None:
    again = seen(vector({"code": -9.0, "prose": -9.0}, step=20, trajectory="a", mixture={"web": 1.0}), 400)
    frame = table(Feed([*MIXED, again]), rows="last")
    assert (frame["trajectory"].tolist(), frame["step"].tolist()) == (["a", "b"], [20, 10])
    assert frame["code"].tolist() == [-9.0, -2.0]
    assert frame["cumulative.web"].tolist() == [0.75, 0.0]
    only = table(Feed([one for one in MIXED if one.trajectory == "a"]), rows="last")
    assert only["cumulative.prose"].tolist() == pytest.approx([100 * 0.7 / 400]), "a domain that the last step left"


def test_where_tokens_are_not_told_a_step_has_an_empty_cell_and_a_run_is_refused_by_name(tmp_path: Path) -> None:
    untold = Feed([seen(one, None) if one.trajectory == "a" else one for one in MIXED])
    assert table(untold)["cumulative.code"].isna().tolist() == [False, True, False]
    with pytest.raises(
        DataError, match=r"trajectory a step 10 does not say how many tokens .* tokens_seen .*--rows steps"
    ):
        write_csv(untold, tmp_path / "x.csv", rows="last")
    assert not list(tmp_path.iterdir())


def test_a_component_called_like_a_cumulative_share_is_refused() -> None:
    with pytest.raises(DataError, match=r"two columns 'cumulative\.x'"):
        table(feed({"cumulative.x": -1.0}, mixture={"x": 1.0}))


def test_a_feed_without_mixtures_is_a_table_all_the_same() -> None:
    bare = feed({"code": -1.0}, {"code": -2.0})
    assert table(bare, rows="last")["code"].tolist() == [-2.0]
    assert not [column for column in table(bare) if "." in column and column.split(".")[0] in ("rho", "cumulative")]
