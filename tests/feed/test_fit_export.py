"""What olmix and RegMix fit on: a row per run, the mixture it was trained on, metrics that are better when lower."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from samples import feed, measurement, seen, varied, vector

from harness import Feed
from harness.core.errors import DataError
from harness.feed.fit_export import read_sizes, write_olmix, write_regmix

RUNS = Feed(
    [
        seen(vector({"code": raw, "prose": raw * 2}, step=step, trajectory=name, mixture=mixture), tokens)
        for name, step, raw, mixture, tokens in [
            ("a", 10, -1.0, {"code": 0.3, "prose": 0.7}, 100),
            ("a", 20, -1 / 3, {"code": 3.0, "web": 1.0}, 400),
            ("b", 10, -2.0, {"prose": 0.1}, None),
        ]
    ]
)
A = {"code": (100 * 0.3 + 300 * 0.75) / 400, "prose": 100 * 0.7 / 400, "web": 300 * 0.25 / 400}


def tables(paths: list[Path]) -> dict[str, pd.DataFrame]:
    return {p.name: pd.read_csv(p, float_precision="round_trip") for p in paths if p.suffix == ".csv"}


def as_olmix_loads(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both files as olmix's loader arranges them: run, name, index, then what is fitted."""
    frames = []
    for name in ("ratios.csv", "metrics.csv"):
        raw = pd.read_csv(folder / name)
        frame = pd.DataFrame({"run": raw["run_id"], "name": raw["run_id"], "index": range(len(raw))})
        for column in [c for c in raw.columns if c not in ("run_id", "name")]:
            frame[column] = raw[column]
        frames.append(frame)
    return frames[0], frames[1]


def test_olmix_gets_a_row_per_run_with_the_mixture_it_was_trained_on(tmp_path: Path) -> None:
    written = write_olmix(RUNS, tmp_path / "olmix")
    assert [path.name for path in written.paths] == ["ratios.csv", "metrics.csv"] and written.left_out == []
    ratios, metrics = as_olmix_loads(tmp_path / "olmix")
    assert ratios.columns[3:].tolist() == ["code", "prose", "web"]
    assert metrics.columns[3:].tolist() == ["code_bpb", "prose_bpb"], "whatever else stood there would be fitted"
    assert ratios["run"].tolist() == metrics["run"].tolist() == ["a", "b"]
    assert ratios.loc[0, ["code", "prose", "web"]].tolist() == pytest.approx(list(A.values()))
    assert ratios.loc[1, ["code", "prose", "web"]].tolist() == [0.0, 1.0, 0.0]
    assert np.allclose(ratios[["code", "prose", "web"]].sum(axis=1), 1.0, atol=1e-12)
    assert metrics["code_bpb"].tolist() == [v.components[0].detail["bits_per_byte"] for v in RUNS[1:]]
    assert (metrics["prose_bpb"] > 0).all(), "bits per byte: lower is better, the sign of a log-prob turned round"


def test_a_row_per_step_has_the_mixture_up_to_it(tmp_path: Path) -> None:
    frames = tables(write_olmix(RUNS, tmp_path, rows="steps").paths)
    assert frames["ratios.csv"]["run_id"].tolist() == ["a-step10", "a-step20", "b-step10"]
    assert frames["ratios.csv"]["code"].tolist() == pytest.approx([0.3, A["code"], 0.0])
    start = vector({"code": -3.0, "prose": -3.0}, step=0, trajectory="a")
    assert len(tables(write_olmix(Feed([start, *RUNS]), tmp_path, rows="steps").paths)["ratios.csv"]) == 3


def test_a_step_measured_again_counts_once(tmp_path: Path) -> None:
    again = seen(vector({"code": -9.0, "prose": -9.0}, step=20, trajectory="a", mixture={"code": 1.0}), 400)
    frames = tables(write_olmix(Feed([*RUNS, again]), tmp_path).paths)
    assert frames["ratios.csv"]["run_id"].tolist() == ["a", "b"]
    assert frames["metrics.csv"]["code_bpb"].tolist()[0] == 3.0
    assert frames["ratios.csv"]["code"].tolist()[0] == pytest.approx((100 * 0.3 + 300) / 400)


def test_olmix_gets_an_empty_cell_for_what_failed(tmp_path: Path) -> None:
    failed = vector({"code": None, "prose": -1.0}, step=30, trajectory="c", mixture={"code": 1.0})
    frames = tables(write_olmix(Feed([*RUNS, failed]), tmp_path).paths)
    assert frames["metrics.csv"]["code_bpb"].isna().tolist() == [False, False, True]


def test_a_vector_without_step_is_a_run(tmp_path: Path) -> None:
    write_olmix(Feed([vector({"code": -1.0}, step=None, mixture={"x": 1.0})]), tmp_path)
    assert (tmp_path / "ratios.csv").read_text() == "run_id,x\na,1.0\n"


def test_errors_stand_in_a_file_of_the_same_shape_that_nobody_fits(tmp_path: Path) -> None:
    rows: list[Any] = [{"code": measurement(-3.0, detail={"bits_per_byte": 1.0, "bits_per_byte_stderr": 0.25})}]
    frames = tables(write_olmix(feed(*rows, mixture={"x": 1.0}), tmp_path).paths)
    assert frames["metrics_stderr.csv"].columns.tolist() == frames["metrics.csv"].columns.tolist()
    assert frames["metrics_stderr.csv"]["code_bpb"].tolist() == [0.25]


@pytest.mark.parametrize("write", [write_olmix, write_regmix])
def test_what_a_run_was_trained_on_has_to_be_known_and_nothing_is_written(write: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"trajectory c step 0 carries no mixture, .* mixture\.json"):
        write(Feed([*RUNS, vector({"code": -1.0, "prose": -1.0}, trajectory="c")]), tmp_path)
    with pytest.raises(DataError, match=r"trajectory a step 10 does not say how many tokens"):
        write(Feed([seen(one, None) for one in RUNS]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_olmix_without_bits_per_byte_is_refused(tmp_path: Path) -> None:
    rows: list[Any] = [{"reward": measurement(0.4, metric="reward", detail={})}]
    with pytest.raises(DataError, match="no component of the feed is measured in bits per byte"):
        write_olmix(feed(*rows, mixture={"x": 1.0}), tmp_path)


@pytest.mark.parametrize("name", ["run", "run_id", "name", "index"])
def test_a_domain_that_olmix_would_take_for_its_own_column_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"olmix would take a domain called '{name}'"):
        write_olmix(feed({"code": -1.0}, mixture={"x": 1.0, name: 1.0}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_rows_of_one_name_are_refused(tmp_path: Path) -> None:
    clash = [vector({"code": -1.0}, step=s, trajectory=t, mixture={"x": 1.0}) for s, t in ((1, "a"), (None, "a-step1"))]
    with pytest.raises(DataError, match="two rows would be called 'a-step1'"):
        write_olmix(Feed(clash), tmp_path, rows="steps")
    assert len(write_olmix(Feed(clash), tmp_path).paths) == 2


def test_sizes_of_domains_come_from_a_file_or_from_multipliers(tmp_path: Path) -> None:
    (tmp_path / "sizes.json").write_text('{"code": 100, "prose": 200, "web": 100, "other": 9}')
    paths = write_olmix(RUNS, tmp_path / "one", sizes=read_sizes(tmp_path / "sizes.json")).paths
    assert json.loads(paths[-1].read_text()) == {
        "relative_sizes": {"code": 0.25, "prose": 0.5, "web": 0.25},
        "total_tokens": 400,
        "token_counts": {"code": 100, "prose": 200, "web": 100},
    }
    multiplied = seen(vector({"code": -1.0}, mixture={"a": 2.0, "b": 1.0}), None, sizes=[100.0, 300.0])
    ratios, _, priors = write_olmix(Feed([multiplied]), tmp_path / "two").paths
    assert pd.read_csv(ratios)[["a", "b"]].loc[0].tolist() == [0.4, 0.6]
    assert json.loads(priors.read_text())["token_counts"] == {"a": 100, "b": 300}
    relative = write_olmix(RUNS, tmp_path / "three", sizes={"code": 0.25, "prose": 0.5, "web": 0.25}).paths
    assert list(json.loads(relative[-1].read_text())) == ["relative_sizes"]


@pytest.mark.parametrize("text", ['{"code": 100, "prose": 200, "code": 300}', "[" * 100_000, "{"])
def test_sizes_that_cannot_be_read_as_meant_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "sizes.json").write_text(text)
    with pytest.raises(DataError, match=r"cannot read sizes .*sizes\.json"):
        read_sizes(tmp_path / "sizes.json")


def test_sizes_that_are_missing_or_differ_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no size for domain web"):
        write_olmix(RUNS, tmp_path, sizes={"code": 1, "prose": 1})
    one, other = (
        seen(vector({"code": -1.0}, trajectory=name, mixture={"x": 1.0}), None, sizes=[size])
        for name, size in (("a", 1.0), ("b", 2.0))
    )
    with pytest.raises(DataError, match="domain 'x' has size 2 in one mixture and 1 in another"):
        write_olmix(Feed([one, other]), tmp_path)
    assert len(write_olmix(Feed([one, other]), tmp_path, sizes={"x": 2}).paths) == 3


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"a": 0}', '{"a": "1"}', '{"a": true}', '{"a": NaN}'])
def test_a_file_of_sizes_that_is_none_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "sizes.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"sizes\.json"):
        read_sizes(path)


def as_regmix_loads(folder: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """X and y as RegMix's notebook takes them: the columns after the first, by position."""
    config, target = (pd.read_csv(folder / name) for name in ("train_mixture.csv", "train_target.csv"))
    return config[config.columns[1:]].values, target[target.columns[1:]].values


def test_regmix_gets_mixtures_and_losses_by_position(tmp_path: Path) -> None:
    accurate: list[Any] = [measurement(x, metric="acc", detail={}) for x in (0.25, 0.5, 0.75)]
    perplexed: list[Any] = [measurement(x, metric="ppl", higher_is_better=False, detail={}) for x in (9.0, 8.0, 7.0)]
    vectors = []
    for index, (acc, ppl) in enumerate(zip(accurate, perplexed, strict=True)):
        raws = {"code": -1.0 - index, "acc": acc, "ppl": ppl}
        vectors.append(vector(raws, step=5, trajectory=f"r{index}", mixture={"x": 1 - index / 4, "y": index / 4}))
    written = write_regmix(Feed(vectors), tmp_path)
    assert [p.name for p in written.paths] == ["train_mixture.csv", "train_target.csv", "train_target_stderr.csv"]
    x, y = as_regmix_loads(tmp_path)
    assert x.tolist() == [[1.0, 0.0], [0.75, 0.25], [0.5, 0.5]]
    assert y.tolist() == [[1.0, -0.25, 9.0], [2.0, -0.5, 8.0], [3.0, -0.75, 7.0]], "lower is better in every column"
    frames = tables(written.paths)
    assert frames["train_target.csv"].columns.tolist() == ["index", "code_loss", "acc_loss", "ppl_loss"]
    assert frames["train_target_stderr.csv"].columns.tolist() == frames["train_target.csv"].columns.tolist()
    assert frames["train_mixture.csv"]["index"].tolist() == frames["train_target.csv"]["index"].tolist()


def test_regmix_has_no_gaps_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    failed = vector({"code": None, "prose": -1.0}, trajectory="c", mixture={"code": 1.0})
    written = write_regmix(Feed([*RUNS, failed]), tmp_path)
    assert written.left_out == ["c: code failed: the checkpoint is broken"]
    x, y = as_regmix_loads(tmp_path)
    assert len(x) == len(y) == 2 and np.isfinite(x).all() and np.isfinite(y).all()
    never = [vector({"code": None, "prose": -1.0}, trajectory=name, mixture={"x": 1.0}) for name in "ab"]
    assert write_regmix(Feed(never), tmp_path).left_out == ["code: was measured in no run"]
    assert as_regmix_loads(tmp_path)[1].tolist() == [[1.0], [1.0]]
    with pytest.raises(DataError, match="no run has every component measured"):
        write_regmix(feed({"code": None}, mixture={"x": 1.0}), tmp_path)


def test_regmix_refuses_a_domain_called_index(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="RegMix would take a domain called 'index'"):
        write_regmix(feed({"code": -1.0}, mixture={"index": 1.0}), tmp_path)


def with_tokenizer(one: Any, tokenizer: str) -> Any:
    return one.model_copy(update={"checkpoint": one.checkpoint.model_copy(update={"tokenizer": tokenizer})})


def test_losses_per_token_of_two_tokenizers_are_refused_and_bits_per_byte_are_not(tmp_path: Path) -> None:
    runs = [with_tokenizer(vector({"code": -1.0}, trajectory=name, mixture={"x": 1.0}), name) for name in "ab"]
    with pytest.raises(DataError, match="trajectory b step 0 and trajectory a step 0 have different tokenizers"):
        write_regmix(Feed(runs), tmp_path)
    assert len(write_olmix(Feed(runs), tmp_path).paths) == 2


@pytest.mark.parametrize("write", [write_olmix, write_regmix])
def test_runs_of_other_content_are_refused(write: Any, tmp_path: Path) -> None:
    other = vector({"code": -1.0}, trajectory="b", mixture={"x": 1.0}, definitions={"code": "sha256:new"})
    with pytest.raises(DataError, match="measured different things as 'code'"):
        write(Feed([*feed({"code": -1.0}, mixture={"x": 1.0}), other]), tmp_path)


@pytest.mark.parametrize("write", [write_olmix, write_regmix])
def test_what_a_spec_varies_is_a_column_of_its_own_and_no_run(write: Any, tmp_path: Path) -> None:
    vectors = [
        varied(vector({"code": -1.0 - a}, mixture={"x": 1.0}, definitions={"code": f"sha256:{a}"}), alpha=a)
        for a in (0, 1)
    ]
    target = tables(write(Feed(vectors), tmp_path).paths)
    frame = target.get("metrics.csv", target.get("train_target.csv"))
    assert frame is not None
    assert len(frame) == 1 and [c.rpartition("_")[0] for c in frame.columns[1:]] == ["code[alpha=0]", "code[alpha=1]"]


@pytest.mark.parametrize("write", [write_olmix, write_regmix])
def test_an_empty_feed_has_nothing_to_export(write: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to export"):
        write(Feed([]), tmp_path / "x")
