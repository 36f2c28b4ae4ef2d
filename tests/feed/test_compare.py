"""Names of checkpoints to comparisons: which step, which trajectory, which seeds, and what a feed without items is worth."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import Values, fields, write_run

from harness import read_feed
from harness.core.errors import DataError
from harness.feed.compare import compare
from harness.feed.place_name import parse_place


def run(folder: Path, *steps: int | None, name: str = "sft", move: float = 0.1, **settings: Any) -> Path:
    """A run folder with one trajectory, whose code rises by `move` a step."""
    checkpoints = {step: fields(step or 0, code=move * (step or 0)) for step in steps}
    return write_run(folder, {name: checkpoints}, **settings)


def sides(before: Path | str, *after: Path | str, seeds: bool = False) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The labels that are compared, their folders' parents cut off."""
    found = compare(str(before), [str(one) for one in after], seeds=seeds)
    parent = Path(str(before).partition("@")[0].partition(":")[0]).parent
    return [tuple(tuple(label.replace(f"{parent}/", "") for label in of) for of in (c.before, c.after)) for c in found]  # type: ignore[misc]


def test_the_changes_are_those_of_the_vectors_themselves(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    from harness.run.update import update

    run(folder, 0, 1, 2)
    (folder / "run.json").write_text("{}")
    update(folder)
    (found,) = compare(f"{folder}@1", [f"{folder}@2"])
    vector = read_feed(folder)[2]
    for row, component in zip(found.components, vector.components, strict=True):
        assert row.change == pytest.approx(component.change, abs=1e-12)
        assert row.stderr == pytest.approx(component.change_stderr)
        assert (row.n_paired, row.status) == (component.n_paired, "paired")
        assert row.after is not None and row.after.raw == component.raw
    assert found.scalar.after == pytest.approx(vector.scalar)
    assert found.scalar.change == pytest.approx(vector.gain)
    assert found.scalar.stderr == pytest.approx(vector.gain_stderr)


def test_without_steps_both_are_taken_at_the_highest_that_both_have(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", 0, 10, 20, 30), run(tmp_path / "b", 0, 10, 20, 25)
    assert sides(a, b) == [(("a@20",), ("b@20",))]
    (found,) = compare(str(a), [str(b)])
    assert f"compared at step 20, the last that both have; there is {a}@30, {b}@25" in found.remarks


def test_a_gate_judges_the_last_step_against_the_same_one_or_the_last(tmp_path: Path) -> None:
    a, b, c = run(tmp_path / "a", 0, 10, 20), run(tmp_path / "b", 0, 10), run(tmp_path / "c", 0, 20, 30)
    for before, after, labels in ((a, b, ("a@10", "b@10")), (b, a, ("b@10", "a@20")), (c, a, ("c@20", "a@20"))):
        (found,) = compare(str(before), [str(after)], newest=True)
        assert (*found.before, *found.after) == tuple(f"{tmp_path}/{label}" for label in labels)
    (found,) = compare(str(b), [str(a)], newest=True)
    assert "the last step of each is compared, which the other side does not have" in found.remarks


def test_without_a_step_in_common_the_last_of_each_is_taken_and_said(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", 1, 3), run(tmp_path / "b", 2, 4)
    (found,) = compare(str(a), [str(b)])
    assert (found.before, found.after) == ((f"{a}@3",), (f"{b}@4",))
    assert "the last step of each is compared, since they have none in common" in found.remarks
    base = run(tmp_path / "base", None)
    (found,) = compare(str(base), [str(b)])
    assert (found.before, found.after, found.remarks) == ((str(base),), (f"{b}@4",), ())


def test_where_one_names_a_step_the_other_is_its_last(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", 0, 10, 20), run(tmp_path / "b", 0, 10)
    assert sides(f"{a}@0", a) == [(("a@0",), ("a@20",))]
    assert sides(f"{a}@20", b) == [(("a@20",), ("b@10",))]
    assert sides(a, f"{b}@0") == [(("a@20",), ("b@0",))]
    assert sides(f"{a}@first", f"{a}@last") == [(("a@0",), ("a@20",))]


def test_several_against_one_each_at_its_step(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", 0, 10), run(tmp_path / "b", 0, 10)
    assert sides(f"{a}@0", f"{a}@10", f"{b}@10", f"{b}@0") == [
        (("a@0",), ("a@10",)),
        (("a@0",), ("b@10",)),
        (("a@0",), ("b@0",)),
    ]
    assert sides(f"{a}@0", f"{b}@10", f"{b}@10") == [(("a@0",), ("b@10",))], "named twice, compared once"


def test_a_step_measured_twice_counts_as_it_was_measured_last(tmp_path: Path) -> None:
    a = run(tmp_path / "a", 0, 10)
    b = run(tmp_path / "b", 10, move=0.5)
    feed = a / "rewards.jsonl"
    feed.write_text(feed.read_text() + (b / "rewards.jsonl").read_text())
    shutil.copytree(b / "items", a / "items", dirs_exist_ok=True)
    (found,) = compare(f"{a}@0", [f"{a}@10"])
    assert found.components[0].change == pytest.approx(5.0, abs=0.1)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("{a}", "{a}", "is on both sides without a step"),
        ("{a}@10", "{a}", "a@10 is on both sides"),
        ("{a}@5", "{a}", r"a has no step 5; it has 0, 10"),
        ("{a}:other@10", "{a}", "no trajectory 'other'; it has sft"),
        ("{a}~x", "{a}", "nothing at"),
        ("{tmp}/none", "{a}", "nothing at"),
        ("{tmp}", "{a}", r"no run folder \(it has no rewards.jsonl\) and no result folder of lm-eval"),
        ("{tmp}/empty", "{a}", "is empty"),
    ],
)
def test_what_names_no_two_checkpoints_is_refused(before: str, after: str, words: str, tmp_path: Path) -> None:
    where = {"a": str(run(tmp_path / "a", 0, 10)), "tmp": str(tmp_path)}
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/rewards.jsonl").write_text("")
    with pytest.raises(DataError, match=words):
        compare(before.format(**where), [after.format(**where)])


def test_paths_and_trajectories_with_marks_in_them(tmp_path: Path) -> None:
    odd = write_run(
        tmp_path / "a@3:b", {"org/name@main": {0: fields(0), 5: fields(5)}, "x[seed=1,y=2]": {0: fields(2)}}
    )
    assert sides(f"{odd}:org/name@main@0", f"{odd}:org/name@main") != []
    (found,) = compare(f"{odd}:org/name@main@0", [f"{odd}:org/name@main@5"])
    assert (found.before, found.after) == ((f"{odd}:org/name@main@0",), (f"{odd}:org/name@main@5",))
    for label in (*found.before, *found.after):
        assert parse_place(label).path == odd, "a label names its checkpoint"


def test_several_trajectories_are_compared_like_with_like(tmp_path: Path) -> None:
    both = {name: {0: fields(0), 5: fields(i)} for i, name in enumerate(("mix-0", "mix-1"), start=1)}
    a = write_run(tmp_path / "a", both)
    assert sides(f"{a}@0", f"{a}@5") == [(("a:mix-0@0",), ("a:mix-0@5",)), (("a:mix-1@0",), ("a:mix-1@5",))]
    assert sides(f"{a}:mix-1", a) == [(("a:mix-1@5",), ("a:mix-0@5",))], "with every other"
    b = run(tmp_path / "b", 0, 5)
    assert sides(b, a) == [(("b@5",), ("a:mix-0@5",)), (("b@5",), ("a:mix-1@5",))]
    with pytest.raises(DataError, match=r"has several trajectories \(mix-0, mix-1\) and none is called sft; name one"):
        compare(str(a), [str(b)])


def seeded(tmp_path: Path, **settings: Any) -> Path:
    steps = {f"sft-seed{i}": {0: fields(0), 5: fields(i, code=0.1 * i)} for i in (1, 2, 3)}
    return write_run(tmp_path / "seeds", steps, **settings)


def test_seeds_in_one_folder_are_one_side(tmp_path: Path) -> None:
    folder, base = seeded(tmp_path), run(tmp_path / "base", 5)
    three = tuple(f"seeds:sft-seed{i}@5" for i in (1, 2, 3))
    assert sides(base, folder) == [(("base@5",), three)]
    (found,) = compare(str(base), [str(folder)])
    made = found.components[0]
    assert made.after is not None
    raws = [vector.vector[0] for vector in read_feed(folder) if vector.step == 5]
    assert made.after.raw == pytest.approx(np.mean(raws)) and made.after.seeds.std == pytest.approx(
        np.std(raws, ddof=1)
    )
    assert made.seed_stderr is not None and made.stderr is not None and made.seed_stderr > 3 * made.stderr
    assert any(remark.startswith("seeds of one training: ") for remark in found.remarks)
    assert sides(f"{folder}:sft@0", f"{folder}:sft@5") == [(tuple(f"seeds:sft-seed{i}@0" for i in (1, 2, 3)), three)]
    assert sides(base, f"{folder}:sft-seed2") == [(("base@5",), ("seeds:sft-seed2@5",))], "one of them by its name"


def test_seeds_in_folders_of_their_own_are_one_side(tmp_path: Path) -> None:
    base = run(tmp_path / "base", 5)
    folders = [run(tmp_path / f"new_seed={i}", 0, 5, move=0.1 * i) for i in (1, 2)]
    assert sides(base, *folders) == [(("base@5",), ("new_seed=1@5", "new_seed=2@5"))]
    others = [run(tmp_path / name, 0, 5) for name in ("lr1", "lr2")]
    assert len(sides(base, *others)) == 2, "other folders, whatever their trajectories are called"
    assert sides(base, *others, seeds=True) == [(("base@5",), ("lr1@5", "lr2@5"))]


def test_two_seeds_on_either_side_are_told_to_be_that(tmp_path: Path) -> None:
    folder = seeded(tmp_path)
    (found,) = compare(f"{folder}:sft-seed1", [f"{folder}:sft-seed2"])
    assert "both are seeds of one training: what they differ by is what a seed does" in found.remarks
    assert found.components[0].seed_stderr is None
    same = [run(tmp_path / name, 5, name="sft-seed1") for name in ("x", "y")]
    assert not any("seed" in remark for remark in compare(str(same[0]), [str(same[1])])[0].remarks)


def test_folders_of_seeds_without_another_name_are_trainings_of_their_own(tmp_path: Path) -> None:
    base = run(tmp_path / "base", 5)
    a, b = (write_run(tmp_path / name, {f"seed{i}": {5: fields(i)} for i in (1, 2)}) for name in ("a", "b"))
    assert [after for _, after in sides(base, a, b)] == [("a:seed1@5", "a:seed2@5"), ("b:seed1@5", "b:seed2@5")]
    (found,) = compare(str(a), [str(b)])
    assert len(found.before) == len(found.after) == 2
    assert not any(remark.startswith("both are seeds") for remark in found.remarks)


def test_a_groups_members_count_as_its_value_counts_them(tmp_path: Path) -> None:
    answers = [[1.0, 0.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 1.0, 1.0]]
    steps = {i: {"mmlu": Values(values=one, members=2, weight=1.0)} for i, one in enumerate(answers)}
    (found,) = compare(f"{write_run(tmp_path / 'a', {'sft': steps})}@0", [f"{tmp_path / 'a'}@1"])
    (row,) = found.components
    assert (row.status, row.change) == ("paired", pytest.approx(0.4))
    assert row.flips is not None and row.flips.to_right == ("t1/1", "t0/4")


def test_seeds_that_were_mixed_otherwise_are_no_seeds_of_one_training(tmp_path: Path) -> None:
    base = run(tmp_path / "base", 5)
    mixtures = {"sft-seed1": {"x": 1.0, "y": 1.0}, "sft-seed2": {"x": 2.0, "y": 2.0}, "sft-seed3": {"x": 9.0, "y": 1.0}}
    assert [after for _, after in sides(base, seeded(tmp_path, mixtures=mixtures))] == [
        ("seeds:sft-seed1@5", "seeds:sft-seed2@5"),
        ("seeds:sft-seed3@5",),
    ]


def test_a_feed_alone_is_compared_unpaired_and_says_so(tmp_path: Path) -> None:
    a = run(tmp_path / "a", 0, 5)
    (whole,) = compare(f"{a}@0", [f"{a}@5"])
    alone = tmp_path / "copied.jsonl"
    shutil.copy(a / "rewards.jsonl", alone)
    (found,) = compare(f"{alone}@0", [f"{alone}@5"])
    for row, paired in zip(found.components, whole.components, strict=True):
        assert row.status == "unpaired"
        assert row.reason == f"its items are not beside the feed (no items/sft-0/{row.name}.parquet)"
        assert row.change == pytest.approx(paired.change)
        assert row.stderr == pytest.approx(paired.unpaired_stderr)
    never = run(tmp_path / "never", 0, 5, items=False)
    (found,) = compare(f"{never}@0", [f"{a}@5"])
    assert {row.reason for row in found.components} == {"the feed names no file of its items"}
    (a / "items/sft-5/code.parquet").write_bytes(b"torn")
    (found,) = compare(f"{a}@0", [f"{a}@5"])
    assert [row.status for row in found.components] == ["unpaired", "paired"]
    assert "cannot be read" in str(found.components[0].reason)


def test_simulations_flip_by_task_and_trial_and_unscored_ones_by_neither(tmp_path: Path) -> None:
    tasks = [task for task in ("7", "8", "book") for _ in range(2)]

    def retail(*rewards: float | None) -> dict[str, Values]:
        return {"retail": Values(values=rewards, kind="tau2", metric="reward", task_ids=tasks, weight=1.0)}

    folder = write_run(tmp_path / "a", {"sft": {0: retail(1, 0, 0, 0, 1, None), 5: retail(1, 1, None, 0, 0, 1)}})
    (found,) = compare(f"{folder}@0", [f"{folder}@5"])
    (row,) = found.components
    assert row.flips is not None and row.before is not None and row.after is not None
    assert (row.flips.to_right, row.flips.to_wrong, row.n_paired, row.n_clusters) == (
        ("7 trial 1",),
        ("book trial 0",),
        4,
        3,
    )
    assert (row.before.n_scored, row.after.n_scored, row.n_unscored) == (5, 5, 1)


def test_a_side_that_failed_keeps_its_cause(tmp_path: Path) -> None:
    broken = {"code": fields(5)["code"], "prose": replace(fields(5)["prose"], values=[None] * 200)}
    folder = write_run(tmp_path / "a", {"sft": {0: fields(0), 5: broken}})
    (found,) = compare(f"{folder}@0", [f"{folder}@5"])
    assert [row.status for row in found.components] == ["paired", "failed"]
    assert found.components[1].reason == f"{folder}@5: the server did not answer"
    assert found.components[1].change is None and found.scalar.change is None


def test_another_definition_or_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    a = run(tmp_path / "a", 5)
    other = {name: replace(one, definition="sha256:2") if name == "code" else one for name, one in fields(5).items()}
    b = write_run(tmp_path / "b", {"sft": {5: other}})
    (found,) = compare(str(a), [str(b)])
    assert [(row.name, row.status) for row in found.components] == [("code", "refused"), ("prose", "paired")]
    assert "another definition" in str(found.components[0].reason) and f"{a}@5 and {b}@5" in str(
        found.components[0].reason
    )
    c = run(tmp_path / "c", 5, tokenizer="sha256:other")
    (found,) = compare(str(a), [str(c)])
    assert {(row.status, "another tokenizer" in str(row.reason)) for row in found.components} == {("refused", True)}
