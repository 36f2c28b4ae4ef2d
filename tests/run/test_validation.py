"""Two scales read from their feeds and compared, on a study whose truth is known; what is not clear is refused by name."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
from samples import measurement, seen, varied, vector, write
from study import write_study

from harness import Feed, read_feed
from harness.cli import run
from harness.core.errors import DataError, SpecError
from harness.core.vector import RewardVector
from harness.run.scale import read_scale
from harness.run.validation import ALL, Validation, validated

Place = tuple[Path, Path]
VERDICTS = {"code": "steers", "choices": "steers", "web": "moves", "quiz": "noise"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return write_study(tmp_path_factory.mktemp("study"))


def compared(proxies: Path, targets: Path | None, *names: str, seed: int = 0) -> Validation:
    against = None if targets is None else read_scale([targets], last=5)
    return validated(read_scale([proxies], last=5), against, names, last=5, seed=seed)


def changed(feed: Path, to: Path, change: Callable[[RewardVector], RewardVector | None]) -> Path:
    """A copy of a feed with its items and every vector changed; None leaves one out."""
    shutil.copytree(feed, to)
    write([new for one in read_feed(feed) if (new := change(one)) is not None], to / "rewards.jsonl")
    return to


def number_of(one: RewardVector) -> int:
    return int(one.trajectory.split("-")[1])


def test_a_study_of_known_truth_is_told_as_it_is(place: Place) -> None:
    made = compared(*place, "coding")
    assert {one.name: one.verdict for one in made.components} == VERDICTS
    code = made.components[0]
    shares = [recipe.total["code"] for recipe in made.proxies.recipes]
    assert code.signal.signal == pytest.approx(1.5 * float(np.std(shares, ddof=1)), rel=0.15)
    assert code.signal.item == pytest.approx(math.sqrt((0.2**2 + 0.1**2) / 300), rel=0.15)
    assert code.signal.step == pytest.approx(math.hypot(0.03, 0.1 / math.sqrt(300)), rel=0.25)
    assert code.signal.seed == pytest.approx(math.sqrt(0.06**2 + 0.03**2 + 0.1**2 / 300), rel=0.4)
    assert code.agreement is not None and code.agreement.rank is not None and code.agreement.decisions is not None
    assert code.agreement.rank.interval.low > 0.5 and code.agreement.decisions.seen > 0.8
    assert made.weights is not None and sum(made.weights.values()) == pytest.approx(1)
    assert (made.weights["web"], made.weights["quiz"]) == (0.0, 0.0) and min(
        made.weights["code"], made.weights["choices"]
    ) > 0
    assert (made.n_matched, made.proxies.n_runs, made.against and made.against.n_runs) == (12, 24, 16)
    assert compared(*place, "coding").to_json() == made.to_json(), "the same seed, the same numbers"


def test_runs_are_matched_by_what_they_were_trained_on_and_not_by_name(place: Place, tmp_path: Path) -> None:
    renamed = changed(
        place[1],
        tmp_path / "t",
        lambda one: one.model_copy(
            update={"trajectory": f"big-{hash(one.trajectory) % 10**9}", "step": (one.step or 0) * 7}
        ),
    )
    before, after = compared(*place, "coding"), compared(place[0], renamed, "coding")
    for one, other in zip(before.components, after.components, strict=True):
        assert one.agreement is not None and other.agreement is not None
        assert one.agreement.rank is not None and other.agreement.rank is not None
        assert one.agreement.rank.seen == other.agreement.rank.seen


def test_without_a_target_there_is_signal_and_noise(place: Place) -> None:
    made = compared(place[0], None)
    assert {one.name: one.verdict for one in made.components} == {**dict.fromkeys(VERDICTS, "moves"), "quiz": "noise"}
    assert made.weights is None and not made.targets and made.against is None
    assert all(one.agreements == {} for one in made.components)


def test_without_items_the_rest_is_told_and_that_is_said(place: Place, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(place[0] / "rewards.jsonl", bare)
    made = compared(bare, place[1], "coding")
    assert all(one.signal.item is None and one.signal.seed is not None for one in made.components)
    assert any(
        "code, choices, web, quiz: no item noise: mix-00-seed-0: its items are not at hand" in words
        for words in made.remarks
    )
    assert made.components[0].verdict == "steers"


def test_repeats_are_told_from_mixtures_by_what_they_were_trained_on(place: Place, tmp_path: Path) -> None:
    alone = changed(place[0], tmp_path / "p", lambda one: one if one.trajectory.endswith("0") else None)
    made = compared(alone, place[1], "coding")
    assert made.proxies.n_runs == len(made.proxies.recipes) == 12
    assert all(one.signal.seed is None for one in made.components)
    assert any("no mixture was trained twice" in words for words in made.remarks)
    split = changed(place[0], tmp_path / "q", lambda one: one if one.trajectory.endswith("1") else None)
    both = read_scale([alone, split], last=5)
    assert both.n_runs == 24 and len(both.recipes) == 12, "repeats may lie in several feeds"
    whole = validated(both, read_scale([place[1]], last=5), ["coding"], last=5, seed=0)
    assert [one.signal.seed for one in whole.components] == pytest.approx(
        [one.signal.seed for one in compared(*place, "coding").components]
    )


def test_the_same_weights_twice_are_no_repeat(tmp_path: Path) -> None:
    one, other = (vector({"code": -1.0}, trajectory=name, mixture={"x": 1.0}) for name in "ab")
    same = other.model_copy(update={"checkpoint": one.checkpoint})
    write([one, same], tmp_path / "rewards.jsonl")
    with pytest.raises(DataError, match="b and a end with the same weights"):
        read_scale([tmp_path], last=5)


@pytest.mark.parametrize("by", ["step", "tokens_seen"])
def test_runs_of_one_mixture_and_unlike_length_are_refused_by_name(place: Place, tmp_path: Path, by: str) -> None:
    def change(one: RewardVector) -> RewardVector | None:
        if one.trajectory != "mix-03-seed-1":
            return one
        if by == "step":
            return None if (one.step or 0) > 6 else one
        return seen(one, 10 * (one.checkpoint.tokens_seen or 0))

    feed = changed(place[0], tmp_path / "p", change)
    with pytest.raises(
        DataError, match="mix-03-seed-1 and mix-03-seed-0 are trained on one mixture to different lengths"
    ):
        read_scale([feed], last=5)


def test_runs_that_end_at_other_steps_are_said(place: Place, tmp_path: Path) -> None:
    feed = changed(
        place[0],
        tmp_path / "p",
        lambda one: None if one.trajectory.startswith("mix-05") and (one.step or 0) > 7 else one,
    )
    made = compared(feed, place[1], "coding")
    assert any(
        "runs end at different steps (7, 8)" in words and "mix-05-seed-0 ends at 7" in words for words in made.remarks
    )


def test_what_failed_is_left_out_and_said(place: Place, tmp_path: Path) -> None:
    failed = measurement(None)

    def change(one: RewardVector) -> RewardVector:
        if one.trajectory != "mix-02-seed-0" or one.step != 8:
            return one
        code = one.components[0].model_copy(
            update={"raw": None, "status": "failed", "reason": failed.reason, "n_scored": 0}
        )
        components = [code, *one.components[1:]]
        return one.model_copy(update={"components": components, "vector": [c.raw for c in components]})

    made = compared(changed(place[0], tmp_path / "p", change), place[1], "coding")
    assert any(
        "code: has no value at the end of mix-02-seed-0 (the checkpoint is broken)" in words for words in made.remarks
    )
    assert [one.signal.n_runs for one in made.components] == [23, 24, 24, 24]


def test_mixtures_at_one_scale_only_are_said_and_too_few_in_common_refused(place: Place, tmp_path: Path) -> None:
    half = changed(place[1], tmp_path / "half", lambda one: one if number_of(one) < 6 else None)
    made = compared(place[0], half, "coding")
    assert made.n_matched == 6
    assert any(
        "6 mixtures of the proxies have no run at the other scale, first mix-06-seed-0" in w for w in made.remarks
    )
    two = changed(place[1], tmp_path / "two", lambda one: one if number_of(one) < 2 else None)
    with pytest.raises(DataError, match=r"2 mixtures were trained on at both scales.* mix-02-seed-0 \(code"):
        compared(place[0], two, "coding")
    four = changed(place[1], tmp_path / "four", lambda one: one if number_of(one) < 4 else None)
    assert all(one.verdict is None for one in compared(place[0], four, "coding").components), "too few for a verdict"


def test_a_target_that_is_not_there_or_not_named_is_refused_with_those_that_are(place: Place) -> None:
    with pytest.raises(SpecError, match=r"--target humaneval: .*no such component; it has coding"):
        compared(*place, "humaneval")
    with pytest.raises(SpecError, match="there is coding"):
        compared(*place)


def test_one_feed_on_both_sides_is_refused(place: Place) -> None:
    with pytest.raises(DataError, match="stands on both sides"):
        compared(place[0], place[0], "code")


def test_several_targets_decide_together_and_each_is_told(place: Place, tmp_path: Path) -> None:
    def twice(one: RewardVector) -> RewardVector:
        coding = one.components[0]
        again = coding.model_copy(update={"name": "coding_hard", "raw": (coding.raw or 0) / 2})
        return one.model_copy(
            update={
                "components": [coding, again],
                "vector": [coding.raw, again.raw],
                "standardized": [coding.standardized, again.standardized],
                "reference": one.reference.model_copy(update={"mean": [None] * 2, "std": [None] * 2}),
            }
        )

    both = changed(place[1], tmp_path / "t", twice)
    made, single = compared(place[0], both, "coding", "coding_hard"), compared(*place, "coding")
    assert list(made.targets) == [ALL, "coding", "coding_hard"]
    for one, other in zip(made.components, single.components, strict=True):
        assert list(one.agreements) == list(made.targets)
        assert one.agreement is not None and other.agreement is not None
        assert one.agreement.rank is not None and other.agreement.rank is not None
        assert one.agreement.rank.seen == pytest.approx(other.agreement.rank.seen), "the same twice is the same"
        assert one.verdict == other.verdict


def test_a_target_that_is_better_when_lower_is_turned_round(place: Place, tmp_path: Path) -> None:
    def turned(one: RewardVector) -> RewardVector:
        loss = one.components[0].model_copy(update={"raw": -(one.components[0].raw or 0), "higher_is_better": False})
        return one.model_copy(update={"components": [loss], "vector": [loss.raw]})

    made = compared(place[0], changed(place[1], tmp_path / "t", turned), "coding")
    assert {one.name: one.verdict for one in made.components} == VERDICTS


def test_a_target_that_does_not_vary_decides_nothing(place: Place, tmp_path: Path) -> None:
    def still(one: RewardVector) -> RewardVector:
        component = one.components[0].model_copy(update={"raw": 0.25})
        return one.model_copy(update={"components": [component], "vector": [0.25]})

    with pytest.raises(DataError, match="target coding does not vary over the 12 common mixtures"):
        compared(place[0], changed(place[1], tmp_path / "t", still), "coding")


def test_runs_without_a_mixture_are_refused_and_a_base_that_was_not_trained_is_left_out(tmp_path: Path) -> None:
    write([vector({"code": -1.0}, step=5)], tmp_path / "rewards.jsonl")
    with pytest.raises(DataError, match="trajectory a step 5 carries no mixture"):
        read_scale([tmp_path], last=5)
    base = vector({"code": -1.0}, trajectory="base")
    trained = [vector({"code": -1.0 - n}, step=5, trajectory=f"r{n}", mixture={"x": n, "y": 1}) for n in range(3)]
    write([base, *trained], tmp_path / "rewards.jsonl")
    scale = read_scale([tmp_path], last=5)
    assert scale.n_runs == 3 and scale.remarks[0] == "base is left out: it was trained on no mixture"
    write([base], tmp_path / "rewards.jsonl")
    with pytest.raises(DataError, match="no run with a mixture"):
        read_scale([tmp_path], last=5)


def test_what_a_spec_varies_is_told_by_value(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = []
    for number in range(6):
        for alpha in (0, 1):
            raws = {"code": number * alpha + 0.01 * rng.normal()}
            one = vector(
                raws,
                step=1,
                trajectory=f"r{number}",
                mixture={"x": 1.0, "y": 1.0 + number},
                definitions={"code": str(alpha)},
            )
            vectors.append(varied(one, alpha=alpha))
    write(vectors, tmp_path / "rewards.jsonl")
    scale = read_scale([tmp_path], last=5)
    assert list(scale.components) == ["code[alpha=0]", "code[alpha=1]"] and scale.n_runs == 6


def test_feeds_that_measured_different_things_are_refused_with_their_names(place: Place, tmp_path: Path) -> None:
    other = changed(
        place[0],
        tmp_path / "other",
        lambda one: one.model_copy(
            update={
                "trajectory": f"x{one.trajectory}",
                "provenance": one.provenance.model_copy(update={"tasks": {"code": {"definition": "new"}}}),
            }
        ),
    )
    with pytest.raises(DataError, match=rf"{other}: trajectory xmix.*measured different things as 'code'"):
        read_scale([place[0], other], last=5)


def test_an_empty_feed_has_nothing_to_compare(tmp_path: Path) -> None:
    write(Feed([]), tmp_path / "rewards.jsonl")
    with pytest.raises(DataError, match="nothing to compare"):
        read_scale([tmp_path], last=5)


def test_a_run_folder_that_score_wrote_is_read_with_its_items_and_its_multipliers(tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    rows = [{"q": f"Question {i}: what comes after {i}?", "r": f" The number {i + 1}."} for i in range(12)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for seed, name in enumerate(("one-a", "one-b", "two-a", "two-b")):
        folder = tiny.save(tmp_path / "runs" / name / "checkpoint-4", tiny.llama(seed), tokenizer)
        mixture = {
            "code": 2,
            "prose": 1,
            "sizes": {"code": 100, "prose": 300 if name < "two" else 100},
            "tokens_seen": 64,
        }
        (folder / "mixture.json").write_text(json.dumps(mixture), encoding="utf-8")
    assert (
        run(["score", str(tmp_path / "runs"), "--field", str(tmp_path / "a.jsonl"), "--out", str(tmp_path / "out")])
        == 0
    )
    scale = read_scale([tmp_path / "out"], last=5)
    assert [dict(recipe.total) for recipe in scale.recipes] == [
        {"code": 0.4, "prose": 0.6},
        pytest.approx({"code": 2 / 3, "prose": 1 / 3}),
    ]
    component = scale.components["a"]
    assert component.item is not None and component.item > 0 and component.item_of_repeats is not None
    assert not scale.remarks
    assert run(["export", str(tmp_path / "out"), "-F", "olmix", "--sizes", str(write_sizes(tmp_path))]) == 0
    ratios, metrics, errors = (
        pd.read_csv(tmp_path / "out" / f"{n}.csv") for n in ("ratios", "metrics", "metrics_stderr")
    )
    assert ratios["code"].tolist() == pytest.approx([0.4, 0.4, 2 / 3, 2 / 3])
    assert (errors["a_bpb"] > 0).all() and (errors["a_bpb"] < metrics["a_bpb"]).all()


def write_sizes(folder: Path) -> Path:
    (folder / "sizes.json").write_text('{"code": 100, "prose": 300}')
    return folder / "sizes.json"
