"""The feed read back: typed, as the learner's array, and as a frame; what cannot be compared is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import NONE, as_json, feed, measurement, provenance, seen, varied, vector, write

from harness import Feed, read_feed
from harness.core.errors import DataError
from harness.core.vector import RewardVector
from harness.reward_models.reference import fit_reference
from harness.reward_models.vector import Standardization

ROWS = [{"code": -1.0, "prose": -2.0}, {"code": -3.0, "prose": -2.5}, {"code": -2.0, "prose": -4.0}]


def nan_equal(one: Any, other: Any) -> bool:
    return bool(np.array_equal(np.asarray(one, dtype=float), np.asarray(other, dtype=float), equal_nan=True))


def test_a_feed_reads_as_typed_records_from_its_file_or_its_folder(tmp_path: Path) -> None:
    written = feed(*ROWS)
    path = write(written, tmp_path / "rewards.jsonl")
    for place in (path, tmp_path, str(path)):
        assert list(read_feed(place)) == list(written)
    assert isinstance(read_feed(path)[0], RewardVector)


def test_what_vectors_have_in_common_is_held_once(tmp_path: Path) -> None:
    """Half of a long feed's memory and more."""
    one, other, _ = read_feed(write(feed(*ROWS), tmp_path / "rewards.jsonl"))
    assert one.provenance.tasks is other.provenance.tasks
    assert one.components[0].model_fields_set is other.components[1].model_fields_set
    changed = one.model_copy(update={"gain": 1.0, "scalar": 2.0})
    assert changed.model_dump(exclude_unset=True).keys() == one.model_dump(exclude_unset=True).keys() | {
        "gain",
        "scalar",
    }


def test_a_feed_is_a_sequence() -> None:
    whole = feed(*ROWS)
    assert len(whole) == 3
    assert [v.step for v in whole] == [0, 10, 20]
    assert whole[-1] in whole
    assert isinstance(whole[1:], Feed)
    assert [v.step for v in whole[1:]] == [10, 20]
    assert whole.components == ["code", "prose"]


def test_an_empty_feed_is_empty_everywhere(tmp_path: Path) -> None:
    empty = read_feed(write([], tmp_path / "rewards.jsonl"))
    assert len(empty) == 0
    assert (empty.trajectories, empty.components, empty.domains) == ([], [], [])
    assert empty.matrix().shape == (0, 0)
    assert empty.to_pandas().empty
    with pytest.raises(DataError, match="no trajectory 'a' in the feed; it has none"):
        empty.trajectory("a")


def test_a_missing_feed_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no feed at .*rewards.jsonl; `harness score` writes one"):
        read_feed(tmp_path)


def test_a_reader_of_version_1_refuses_version_2_clearly(tmp_path: Path) -> None:
    value = {**as_json(vector(ROWS[0])), "schema": "harness.reward_vector/2"}
    path = tmp_path / "rewards.jsonl"
    path.write_text(json.dumps(value) + "\n")
    with pytest.raises(
        DataError, match=r"line 1: schema is 'harness.reward_vector/2', .* reads 'harness.reward_vector/1'"
    ):
        read_feed(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", "line 2: not valid JSON"),
        ("{}", "line 2: schema is None"),
        ('{"schema": "harness.reward_vector/1"}', "line 2 is not a valid reward vector: run: Field required"),
    ],
)
def test_an_invalid_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = write([vector(ROWS[0])], tmp_path / "rewards.jsonl")
    with path.open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(DataError, match=message):
        read_feed(path)


def test_a_line_still_being_written_is_ignored(tmp_path: Path) -> None:
    path = write(feed(*ROWS), tmp_path / "rewards.jsonl")
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert len(read_feed(path)) == 2


def test_a_trajectory_is_in_step_order_however_it_was_scored() -> None:
    mixed = Feed(
        [vector(ROWS[0], step=step, trajectory=name) for name, step in [("b", 9), ("a", 3), ("b", 2), ("a", 1)]]
    )
    assert mixed.trajectories == ["b", "a"]
    assert [v.step for v in mixed.trajectory("b")] == [2, 9]
    with pytest.raises(DataError, match="no trajectory 'c' in the feed; it has b, a"):
        mixed.trajectory("c")


def test_of_a_step_measured_again_the_latest_stands() -> None:
    vectors = [vector({"code": raw}, step=step) for step, raw in [(1, -1.0), (2, -2.0), (1, -9.0)]]
    assert [v.vector for v in Feed(vectors).latest()] == [[-2.0], [-9.0]]
    assert list(feed(*ROWS).latest()) == list(feed(*ROWS))


def test_the_matrix_is_rho_then_standardised() -> None:
    mixed = feed(*ROWS, mixture={"x": 1.0, "y": 3.0})
    matrix = mixed.matrix()
    assert matrix.shape == (3, 4)
    assert matrix.dtype == np.float64
    assert mixed.domains == ["x", "y"]
    assert nan_equal(matrix[:, :2], [[0.25, 0.75]] * 3)
    raws = np.array([v.vector for v in mixed], dtype=float)
    assert matrix[:, 2:] == pytest.approx((raws - raws.mean(axis=0)) / raws.std(axis=0))


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=8).filter(lambda raws: max(raws) - min(raws) > 1e-3))
def test_a_running_feed_is_standardised_per_trajectory_over_all_its_steps(raws: list[float]) -> None:
    one = feed(*[{"code": raw} for raw in raws], trajectory="one")
    other = feed(*[{"code": 1000 + 3 * raw} for raw in raws], trajectory="other")
    column = Feed([*one, *other]).matrix()[:, 0]
    for half in (column[: len(raws)], column[len(raws) :]):
        assert half.mean() == pytest.approx(0, abs=1e-6)
        assert half.std() == pytest.approx(1)


def test_rows_stay_in_feed_order_when_trajectories_interleave() -> None:
    one = feed(*ROWS, trajectory="one")
    other = feed(*ROWS[::-1], trajectory="other")
    interleaved = Feed([v for pair in zip(one, other, strict=True) for v in pair])
    assert nan_equal(interleaved.matrix()[0::2], one.matrix())
    assert nan_equal(interleaved.matrix()[1::2], other.matrix())


def test_a_step_measured_again_counts_once_in_the_running_statistics() -> None:
    vectors = [vector({"code": raw}, step=step) for step, raw in [(1, -50.0), (1, -1.0), (2, -3.0)]]
    assert nan_equal(Feed(vectors).matrix()[1:, 0], [1.0, -1.0])


def test_a_frozen_feed_uses_the_values_it_carries_and_another_reference_on_demand() -> None:
    frozen = Standardization(mode="frozen", reference=fit_reference(list(feed(*ROWS[:2]))))
    scored = feed(*ROWS, standardization=frozen)
    assert nan_equal(scored.matrix(), [v.standardized for v in scored])
    wider = fit_reference(list(feed({"code": -10.0, "prose": 10.0}, {"code": 10.0, "prose": -10.0})))
    assert nan_equal(scored.matrix(wider), np.array([v.vector for v in scored], dtype=float) / 10)


def test_matrix_with_a_reference_standardises_any_mode_alike() -> None:
    reference = fit_reference(list(feed(*ROWS)))
    frozen = Standardization(mode="frozen", reference=reference)
    expected = feed(*ROWS, standardization=frozen).matrix()
    assert nan_equal(feed(*ROWS).matrix(reference), expected)
    assert nan_equal(feed(*ROWS, standardization=NONE).matrix(reference), expected)


def test_missing_is_nan_and_nothing_else_is() -> None:
    rows: list[dict[str, Any]] = [{"code": -1.0, "flat": 0.1}, {"code": None, "flat": 0.1}, {"code": -3.0, "flat": 0.1}]
    vectors = list(feed(*rows))
    vectors[0] = vector(rows[0], step=0, mixture={"x": 2.0, "y": 2.0})
    vectors[1] = vector(rows[1], step=10, mixture={"z": 1.0})
    nan = math.nan
    assert nan_equal(
        Feed(vectors).matrix(missing="nan"),
        [[0.5, 0.5, 0.0, 1.0, nan], [0.0, 0.0, 1.0, nan, nan], [nan, nan, nan, -1.0, nan]],
    )


def test_a_single_checkpoint_is_at_the_mean_and_nan_only_where_asked_for() -> None:
    assert nan_equal(feed(ROWS[0]).matrix(), [[0.0, 0.0]])
    assert nan_equal(feed(ROWS[0]).matrix(missing="nan"), [[math.nan, math.nan]])
    one = feed(ROWS[0]).matrix(errors="items")
    assert nan_equal(one.errors, [[1.0, 1.0]]), "what is not known has the whole spread as its error"


def test_a_learner_never_gets_nan_unasked() -> None:
    rows: list[dict[str, Any]] = [{"code": -1.0, "flat": 0.1}, {"code": None, "flat": 0.1}, {"code": -3.0, "flat": 0.1}]
    vectors = [vector(rows[0]), *(vector(row, step=10 + i, mixture={"x": 1.0}) for i, row in enumerate(rows[1:]))]
    assert nan_equal(Feed(vectors).matrix(), [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, -1.0, 0.0]])
    for kind in ("paired", "items"):
        found = Feed(vectors).matrix(errors=kind)  # type: ignore[call-overload]
        assert np.isfinite(found.values).all() and np.isfinite(found.errors).all()
        assert nan_equal(found.errors[:, 0], [0.0] * 3) and found.errors[1, 1] == 1.0
    assert feed(*ROWS).matrix(missing="refuse").shape == (3, 2)
    with pytest.raises(DataError, match="step 10: code has no standardised value; it was not measured: the checkpoint"):
        Feed(vectors[1:]).matrix(missing="refuse")
    with pytest.raises(DataError, match=r"a step 0: flat .* does not vary"):
        Feed([vector({"code": -1.0, "flat": 0.1}), vector({"code": -2.0, "flat": 0.1}, step=1)]).matrix(
            missing="refuse"
        )
    with pytest.raises(DataError, match="a step 0: code has no error of this kind"):
        feed(*ROWS).matrix(errors="paired", missing="refuse")
    with pytest.raises(DataError, match="missing is 'zero'"):
        feed(*ROWS).matrix(missing="zero")  # type: ignore[call-overload]


@pytest.mark.parametrize("step", [20, None])
def test_a_mixture_that_was_not_given_is_refused_where_others_are(step: int | None) -> None:
    vectors = [vector(ROWS[0], step=1, mixture={"x": 1.0}), vector(ROWS[1], step=step)]
    with pytest.raises(DataError, match=r"trajectory a.* has no mixture, and others have one"):
        Feed(vectors).matrix()
    assert np.isnan(Feed(vectors).matrix(missing="nan")[1, 0])


def test_a_wholly_failed_trajectory_is_nan_and_leaves_the_others_alone() -> None:
    failed = feed({"code": None, "prose": None}, trajectory="failed")
    matrix = Feed([*feed(*ROWS), *failed]).matrix(missing="nan")
    assert nan_equal(matrix[:3], feed(*ROWS).matrix())
    assert np.isnan(matrix[3]).all()


def test_lower_is_better_is_negated_in_the_matrix() -> None:
    rows: list[Any] = [{"loss": measurement(loss, higher_is_better=False)} for loss in (1.0, 3.0)]
    assert nan_equal(feed(*rows).matrix(), [[1.0], [-1.0]])
    reference = fit_reference(list(feed(*rows)))
    assert nan_equal(feed(*rows).matrix(reference), [[1.0], [-1.0]])


def test_components_are_matched_by_name_when_lines_differ_in_order() -> None:
    turned = [{"prose": row["prose"], "code": row["code"]} for row in ROWS]
    mixed = [vector(ROWS[0], step=0), vector(turned[1], step=10), vector(ROWS[2], step=20)]
    assert nan_equal(Feed(mixed).matrix(), feed(*ROWS).matrix())


def test_vectors_that_cannot_be_compared_are_refused() -> None:
    first = vector(ROWS[0])
    changed = vector(ROWS[1], step=1, definitions={"code": "sha256:new", "prose": "sha256:prose"})
    with pytest.raises(DataError, match="has components code, trajectory a step 0 has code, prose"):
        Feed([first, vector({"code": -1.0}, step=1)]).matrix()
    with pytest.raises(DataError, match="measured other field content or revisions"):
        Feed([first, changed]).matrix()
    references = [fit_reference(list(feed(*rows))) for rows in (ROWS, ROWS[:2])]
    scored = [
        vector(ROWS[0], step=step, standardization=Standardization(mode="frozen", reference=reference))
        for step, reference in enumerate(references)
    ]
    with pytest.raises(DataError, match=f"different references .{references[1].id}, {references[0].id}"):
        Feed(scored).matrix()
    assert Feed(scored).matrix(references[0]).shape == (2, 2)
    with pytest.raises(DataError, match=r"different references \(running, none\)"):
        Feed([vector(ROWS[0], standardization=NONE), vector(ROWS[1], step=1)]).matrix()


def test_a_reference_of_something_else_is_refused() -> None:
    with pytest.raises(DataError, match="not fitted on component 'prose'"):
        feed(*ROWS).matrix(fit_reference(list(feed({"code": -1.0}, {"code": -2.0}))))
    other = {"code": "sha256:other", "prose": "sha256:prose"}
    with pytest.raises(DataError, match="not fitted on component 'code'"):
        feed(*ROWS).matrix(fit_reference(list(feed(*ROWS, definitions=other))))


def test_a_feed_that_was_not_standardised_asks_for_a_reference() -> None:
    with pytest.raises(DataError, match="not standardised"):
        feed(*ROWS, standardization=NONE).matrix()


def test_the_frame_has_a_row_per_vector_and_every_number() -> None:
    rows: list[Any] = [
        {"code": -1.0},
        {"code": None},
        {"code": measurement(-3.0, None, detail={"n_tokens": 7, "note": "x"})},
    ]
    frame = feed(*rows, mixture={"x": 3.0, "y": 1.0}).to_pandas()
    assert frame["step"].tolist() == [0, 10, 20]
    assert frame["code.status"].tolist() == ["ok", "failed", "ok"]
    assert nan_equal(frame["code"], [-1.0, math.nan, -3.0])
    assert nan_equal(frame["code.stderr"], [0.1, math.nan, math.nan])
    assert nan_equal(frame["code.n_tokens"], [120, math.nan, 7])
    assert nan_equal(frame["scalar"], [-1.0, math.nan, -3.0])
    assert frame["mixture.x"].tolist() == [3.0] * 3
    assert "code.note" not in frame


def test_a_missing_step_is_missing_in_the_frame_and_steps_stay_whole_numbers() -> None:
    frame = Feed([vector(ROWS[0], step=None), vector(ROWS[1], step=7)]).to_pandas()
    assert str(frame["step"].dtype) == "Int64"
    assert frame["step"].isna().tolist() == [True, False]


@pytest.mark.parametrize("names", [("step",), ("code", "code.status")])
def test_a_component_that_would_overwrite_a_column_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=f"two columns '{names[-1]}'"):
        feed(dict.fromkeys(names, -1.0)).to_pandas()


@pytest.mark.parametrize("turned", [False, True])
def test_a_column_that_means_two_things_in_two_rows_is_refused(turned: bool) -> None:
    rows = [vector({"rho.x": -1.0}, step=0), vector({"code": -1.0}, step=10, mixture={"x": 1.0})]
    with pytest.raises(DataError, match=r"two columns 'rho\.x'"):
        Feed(rows[::-1] if turned else rows).to_pandas()


def test_what_a_spec_varies_is_a_column() -> None:
    both = [varied(vector({"code": -1.0}), alpha=alpha) for alpha in (0, 0.5)]
    assert Feed(both).to_pandas()["variables.alpha"].tolist() == [0, 0.5]


def test_the_frame_has_the_mixture_as_given_and_as_shares() -> None:
    multiplied = seen(vector({"code": -1.0}, mixture={"a": 2.0, "b": 1.0}), None, sizes=[100.0, 300.0])
    row = Feed([multiplied]).to_pandas().iloc[0]
    assert (row["mixture.a"], row["mixture.b"], row["rho.a"], row["rho.b"]) == (2.0, 1.0, 0.4, 0.6)
    assert nan_equal(Feed([multiplied]).matrix()[0, :2], [0.4, 0.6])


def test_ten_thousand_vectors_are_one_matrix() -> None:
    value = vector({"code": -1.0}, mixture={"x": 1.0})
    many = [
        value.model_copy(
            update={"trajectory": f"t{index // 80}", "step": index % 80, "provenance": provenance({"code": "d"})}
        )
        for index in range(10_000)
    ]
    assert Feed(many).matrix().shape == (10_000, 2)


def with_errors() -> Feed:
    """Two steps whose component has a change of 0.5 with an error."""
    first = vector({"code": -2.0}, mixture={"a": 1.0, "b": 3.0})
    second = vector({"code": measurement(-1.5, 0.2, interval=(-1.9, -1.1), n_clusters=10)}, step=10, history=[first])
    component = second.components[0].model_copy(update={"change_stderr": 0.05, "n_paired": 10})
    return Feed([first, second.model_copy(update={"components": [component], "gain_stderr": 0.05})])


def test_errors_of_the_matrix_are_in_the_unit_of_z_and_on_request() -> None:
    errors = with_errors()
    std = 0.25  # of -2.0 and -1.5
    paired, items = errors.matrix(errors="paired", missing="nan"), errors.matrix(errors="items", missing="nan")
    assert nan_equal(paired.values, errors.matrix(missing="nan"))
    assert nan_equal(items.values, errors.matrix(missing="nan"))
    assert nan_equal(paired.errors, [[0.0, 0.0, math.nan], [math.nan, math.nan, 0.05 / math.sqrt(2) / std]])
    assert nan_equal(items.errors, [[0.0, 0.0, 0.1 / std], [math.nan, math.nan, 0.2 / std]])
    frozen = Standardization(mode="frozen", reference=fit_reference(list(feed(*ROWS))))
    carried = feed(*ROWS, standardization=frozen)
    assert nan_equal(carried.matrix(errors="items").errors, feed(*ROWS).matrix(frozen.reference, errors="items").errors)
    assert Feed([]).matrix(errors="paired").errors.shape == (0, 0)


def test_errors_of_the_frame_are_columns_on_request() -> None:
    plain, frame = with_errors().to_pandas(), with_errors().to_pandas(errors=True)
    assert set(frame.columns) - set(plain.columns) == {
        *("scalar_stderr", "gain_stderr", "gain_df", "gain_standardized", "previous_step"),
        *(f"code.{key}" for key in ("n_clusters", "change", "change_stderr", "change_df", "n_paired", "low", "high")),
        *(f"code.{key}" for key in ("best_step", "loss", "loss_bound", "alarm")),
    }
    last = frame.iloc[1]
    assert (last["code.change"], last["code.change_stderr"], last["gain_stderr"], last["previous_step"]) == (
        0.5,
        0.05,
        0.05,
        0,
    )
    assert (last["code.low"], last["code.high"], last["code.n_clusters"]) == (-1.9, -1.1, 10)


def test_an_error_of_0_is_no_certainty_in_a_learners_errors() -> None:
    rows: list[Any] = [{"arc": measurement(value, 0.0, metric="acc")} for value in (0.0, 1.0)]
    errors = feed(*rows).matrix(errors="items").errors
    assert errors[:, 0] == pytest.approx([0.2, 0.2]), "one of ten, over a standard deviation of one half"
    rows = [{"code": measurement(value, 0.0)} for value in (-2.0, -1.0)]
    assert np.isnan(feed(*rows).matrix(errors="items", missing="nan").errors).all()
