"""Two checkpoints compared: paired, Holm over components, refusals and failures by name, seeds, scalar, and how often it errs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from harness.core.measurement import Interval, Measurement, failed
from harness.reward_models.comparison import Comparison, compare_sides, nothing_compared
from harness.reward_models.component_comparison import ComponentComparison, verdict
from harness.reward_models.holm import holm
from harness.reward_models.items import Items, NoItems, items, layout
from harness.reward_models.paired import change, differences, mcnemar
from harness.reward_models.side import Coordinate, Side
from harness.reward_models.statistics import clustered_mean

RNG = np.random.default_rng(0)
HARD = RNG.normal(size=(2, 100)) - 3


def coordinate(name: str, values: Sequence[float], **changes: Any) -> Coordinate:
    """A component with its items; log-probs unless told otherwise."""
    ids = [f"{name}/{i}" for i in range(len(values))]
    clusters = changes.pop("clusters", ids)
    mean = clustered_mean(values, clusters)
    measured = {
        "metric": "logprob_per_token",
        "raw": mean.mean,
        "stderr": mean.stderr,
        "n_items": len(values),
        "n_scored": len(values),
        "status": "ok",
        **changes.pop("measurement", {}),
    }
    settings: dict[str, Any] = {
        "kind": "logprob",
        "role": "target",
        "weight": 0.5,
        "meaning": {"definition": f"sha256:{name}"},
        "items": items(layout(ids, clusters, scope=name), values),
        **changes,
    }
    return Coordinate(name=name, measurement=Measurement(**measured), **settings)


def side(*coordinates: Coordinate, label: str = "b", **changes: Any) -> Side:
    return Side(coordinates={one.name: one for one in coordinates}, label=label, trajectory=label, **changes)


def fields(code: float = 0.0, prose: float = 0.0, *, seed: int = 1, **changes: Any) -> list[Coordinate]:
    left = np.random.default_rng(seed).normal(scale=0.1, size=(2, 100))
    return [
        coordinate("code", (HARD[0] + left[0] + code).tolist(), **changes),
        coordinate("prose", (HARD[1] + left[1] + prose).tolist(), role="source", **changes),
    ]


def only(found: Comparison, name: str) -> ComponentComparison:
    return next(row for row in found.components if row.name == name)


def test_every_number_of_a_component_is_that_of_its_items() -> None:
    before, after = fields(seed=1), fields(0.1, seed=2)
    found = compare_sides([side(*before, label="a")], [side(*after)])
    made = only(found, "code")
    b, a = before[0].items, after[0].items
    assert isinstance(b, Items) and isinstance(a, Items)
    paired = differences(b, a)
    assert isinstance(paired, Items)
    theirs = change(paired)
    assert (made.change, made.stderr, made.interval, made.p) == (
        theirs.change,
        theirs.stderr,
        theirs.interval,
        theirs.p,
    )
    assert (made.n_paired, made.n_clusters, made.status) == (100, 100, "paired")
    assert made.stderr == pytest.approx(stats.sem(a.values - b.values))
    assert made.unpaired_stderr == pytest.approx(math.hypot(stats.sem(a.values), stats.sem(b.values)))
    assert made.unpaired_stderr > 5 * made.stderr, "what the items do to both cancels"
    assert made.detectable == pytest.approx(2.8016 * made.stderr, rel=0.03)
    assert made.before is not None and made.before.raw == pytest.approx(b.mean)
    assert made.flips is None


def test_p_is_adjusted_over_the_components() -> None:
    found = compare_sides([side(*fields(seed=1))], [side(*fields(0.03, 0.04, seed=2))])
    assert [row.p_holm for row in found.components] == holm([row.p for row in found.components])
    alone = compare_sides([side(fields(seed=1)[0])], [side(fields(0.03, seed=2)[0])])
    assert alone.components[0].p_holm == alone.components[0].p == only(found, "code").p


@pytest.mark.parametrize(
    ("role", "better", "beyond", "word"),
    [
        ("target", True, True, "learned"),
        ("target", False, True, "lost"),
        ("source", True, True, "gained"),
        ("source", False, True, "forgotten"),
        (None, True, True, "learned"),
        ("source", False, False, "within error"),
    ],
)
def test_what_was_learned_and_what_was_forgotten(role: Any, better: bool, beyond: bool, word: str) -> None:
    assert verdict(role, better=better, beyond=beyond) == word


def test_what_happened_is_said_by_name_and_the_adjusted_p_decides() -> None:
    found = compare_sides([side(*fields(seed=1))], [side(*fields(0.5, -0.5, seed=2))])
    assert found.said() == {"learned": ["code"], "forgotten": ["prose"]}
    row = replace(only(found, "code"), p=0.03, p_holm=0.06)
    assert row.word == "within error", "0.03 is no finding where two are looked at"


def test_where_lower_is_better_a_fall_is_an_improvement() -> None:
    lower = {"higher_is_better": False, "metric": "bits_per_byte"}
    found = compare_sides(
        [side(*fields(seed=1, measurement=lower))], [side(*fields(-0.5, 0.5, seed=2, measurement=lower))]
    )
    code = only(found, "code")
    assert found.said() == {"learned": ["code"], "forgotten": ["prose"]}
    assert code.change is not None and code.interval is not None and code.improvement == -code.change > 0
    assert code.improvement_interval == Interval(-code.interval.high, -code.interval.low)
    assert found.scalar.before is not None and found.scalar.before > 0, "negated, as the vector's scalar is"


def test_answers_get_mcnemar_and_their_flips() -> None:
    before, after = [1.0] * 30 + [0.0] * 30, [1.0] * 25 + [0.0] * 5 + [1.0] * 20 + [0.0] * 10
    arc = {"kind": "lm_eval", "measurement": {"metric": "acc"}}
    found = compare_sides([side(coordinate("arc", before, **arc))], [side(coordinate("arc", after, **arc))])
    made = found.components[0]
    assert made.p == mcnemar(20, 5)
    assert made.flips is not None
    assert made.flips.to_right == tuple(f"arc/{i}" for i in range(30, 50))
    assert made.flips.to_wrong == tuple(f"arc/{i}" for i in range(25, 30))


def test_a_component_that_only_one_side_has_is_listed_and_not_compared() -> None:
    code, prose = fields(seed=1)
    found = compare_sides([side(code, prose, label="a")], [side(code, coordinate("more", [1.0, 2.0]))])
    assert [(row.name, row.status, row.change) for row in found.components] == [
        ("code", "paired", 0.0),
        ("more", "only after", None),
        ("prose", "only before", None),
    ]
    assert only(found, "more").reason == "before does not have it"
    assert found.said()["not compared"] == ["more", "prose"]
    assert found.scalar.change is None
    assert found.scalar.reason == "not comparable: more (only after), prose (only before)"


def test_a_failure_on_a_side_has_its_cause_and_no_change() -> None:
    broken = replace(
        fields()[0], measurement=failed("logprob_per_token", "weights hold NaN", n_items=100), items=NoItems("none")
    )
    for sides in (([side(broken, label="a")], [side(fields()[0])]), ([side(fields()[0])], [side(broken, label="a")])):
        found = compare_sides(*sides)
        made = found.components[0]
        assert (made.status, made.change, made.p, made.reason) == ("failed", None, None, "a: weights hold NaN")
        assert found.scalar.reason == "not comparable: code (failed)"
        assert nothing_compared([found]) == "nothing can be compared: code: failed, a: weights hold NaN"


@pytest.mark.parametrize(
    ("mine", "theirs", "words"),
    [
        ({"definition": "1", "revision": "v1"}, {"definition": "2", "revision": "v2"}, "revision v1 and v2"),
        ({"definition": "1", "revision": "v1"}, {"definition": "2", "revision": "v1"}, "its template, settings"),
        (
            {"version": "1.0", "num_fewshot": "5"},
            {"version": "2.0", "num_fewshot": "0"},
            "version 1.0 and 2.0, num_fewshot",
        ),
    ],
)
def test_unlike_definitions_are_refused_by_name(mine: dict[str, Any], theirs: dict[str, Any], words: str) -> None:
    code, prose = fields()
    found = compare_sides(
        [side(replace(code, meaning=mine), prose, label="a")], [side(replace(code, meaning=theirs), prose, label="b")]
    )
    made = only(found, "code")
    assert (made.status, made.change) == ("refused", None)
    assert made.reason is not None and made.reason.startswith("another definition: ") and words in made.reason
    assert "a and b" in made.reason
    assert only(found, "prose").status == "paired", "the others are compared"


def test_equal_definitions_compare_whatever_else_was_noted() -> None:
    code = fields()[0]
    for mine, theirs in (
        ({"definition": "1", "python": "3.11"}, {"definition": "1", "python": "3.12"}),
        ({}, {"definition": "1"}),
        ({"version": None}, {"version": "2"}),
    ):
        sides = [[side(replace(code, meaning=meaning))] for meaning in (mine, theirs)]
        assert compare_sides(*sides).components[0].status == "paired"


def test_another_tokenizer_refuses_scores_per_token_and_no_answers() -> None:
    answers = coordinate("arc", [1.0, 0.0, 1.0], kind="lm_eval", measurement={"metric": "acc"})
    bits = coordinate("bits", [1.5, 2.5, 3.5], kind="lm_eval", measurement={"metric": "bits_per_byte"})
    every = [fields()[0], answers, bits]
    found = compare_sides([side(*every, tokenizer="x")], [side(*every, tokenizer="y")])
    assert [row.status for row in found.components] == ["refused", "paired", "paired"]
    assert "another tokenizer, and logprob_per_token is per token" in str(found.components[0].reason)
    known = compare_sides([side(*every, tokenizer=None)], [side(*every, tokenizer="y")])
    assert [row.status for row in known.components] == ["paired"] * 3, "not known: taken to be the same"


def test_another_metric_direction_or_question_is_refused() -> None:
    arc = coordinate("arc", [1.0, 0.0], kind="lm_eval", measurement={"metric": "acc"}, contents={"arc/0": "x"})
    for other, words in (
        (
            coordinate("arc", [1.0, 0.0], kind="lm_eval", measurement={"metric": "acc_norm"}),
            "acc \\(lm_eval\\) and acc_norm",
        ),
        (
            coordinate("arc", [1.0, 0.0], kind="lm_eval", measurement={"metric": "acc", "higher_is_better": False}),
            "another direction",
        ),
        (
            replace(arc, contents={"arc/0": "y"}),
            "other questions under the same ids in a and b: 1 of them, arc/0 first",
        ),
    ):
        made = compare_sides([side(arc, label="a")], [side(other, label="b")]).components[0]
        assert made.status == "refused"
        assert re.search(words, str(made.reason))


def test_without_items_the_comparison_is_unpaired_and_says_why() -> None:
    before, after = fields(seed=1), fields(0.5, seed=2)
    gone = NoItems("its items are not beside the feed")
    found = compare_sides([side(*before)], [side(*(replace(one, items=gone) for one in after))])
    made, paired = only(found, "code"), only(compare_sides([side(*before)], [side(*after)]), "code")
    assert (made.status, made.reason, made.n_paired, made.df) == ("unpaired", gone.reason, None, None)
    assert made.change == pytest.approx(paired.change)
    assert made.stderr == made.unpaired_stderr == pytest.approx(paired.unpaired_stderr)
    assert made.stderr is not None and made.change is not None
    assert made.interval == pytest.approx(
        (made.change - 1.96 * made.stderr, made.change + 1.96 * made.stderr), abs=1e-3
    )
    assert made.p == pytest.approx(2 * stats.norm.sf(made.change / made.stderr))
    assert found.scalar.unpaired == ("code", "prose")
    assert found.scalar.stderr == pytest.approx(found.scalar.unpaired_stderr)


def test_unpaired_intervals_put_both_sides_own_limits_together() -> None:
    """18 failures of 18 leave room for a success rate of 0.18; an error of 0 would leave none."""
    rare = {"metric": "reward", "stderr": 0.0}
    no = coordinate("retail", [0.0] * 18, measurement={**rare, "interval": (0.0, 0.18)}, items=NoItems("gone"))
    yes = coordinate("retail", [1.0] * 18, measurement={**rare, "interval": (0.82, 1.0)}, items=NoItems("gone"))
    made = compare_sides([side(no)], [side(yes)]).components[0]
    assert made.interval == pytest.approx((1 - math.hypot(0.18, 0.18), 1.0))
    assert made.stderr == pytest.approx(math.hypot(1 / 18, 1 / 18)), "as if one had come out otherwise"


def test_an_unpaired_comparison_of_few_clusters_has_few_degrees_of_freedom() -> None:
    rewards = {"metric": "reward", "n_clusters": 9, "stderr": 0.1}
    before = coordinate("retail", [0.0, 1.0] * 9, measurement=rewards, items=NoItems("gone"))
    after = coordinate("retail", [1.0] * 14 + [0.0] * 4, measurement=rewards, items=NoItems("gone"))
    made = compare_sides([side(before)], [side(after)]).components[0]
    assert made.df == pytest.approx(16) and made.change is not None and made.stderr is not None
    assert made.p == pytest.approx(2 * stats.t.sf(made.change / made.stderr, 16))
    assert made.detectable == pytest.approx(made.stderr * (stats.t.ppf(0.975, 16) + stats.t.ppf(0.8, 16)))


def test_what_a_spec_varies_is_named() -> None:
    code = fields()[0]
    sides = [[side(replace(code, meaning={"definition": str(i)}), about={"variable alpha": i / 2})] for i in range(2)]
    reason = compare_sides(*sides).components[0].reason
    assert reason is not None and reason.endswith("their spec varies it (variable alpha 0.0 and 0.5)")


def test_the_same_weights_changed_by_nothing_for_certain() -> None:
    found = compare_sides([side(*fields(), fingerprint="f")], [side(*fields(), fingerprint="f")])
    for row in found.components:
        assert (row.change, row.stderr, row.interval, row.p, row.word) == (0.0, 0.0, (0.0, 0.0), 1.0, "within error")
    assert found.scalar.change == 0.0 and found.scalar.p == 1.0
    assert "both have the same weights" in found.remarks


def test_a_single_cluster_has_a_change_without_an_error() -> None:
    one = coordinate("code", [1.0, 2.0, 3.0], clusters=["x"] * 3)
    made = compare_sides(
        [side(one)], [side(replace(one, items=coordinate("code", [2.0, 3.0, 5.0], clusters=["x"] * 3).items))]
    )
    row = made.components[0]
    assert (row.stderr, row.p, row.p_holm, row.interval, row.word) == (None, None, None, None, "no error")
    assert row.reason == "too few clusters, or differences that are all equal"
    assert made.scalar.stderr is None and made.scalar.change is not None


def test_the_scalar_is_the_weighted_sum_with_the_paired_error_of_its_difference() -> None:
    before, after = fields(seed=1), fields(0.1, -0.2, seed=2)
    found = compare_sides([side(*before)], [side(*after)])
    code, prose = found.components
    assert found.scalar.change == pytest.approx(0.5 * (code.change or 0) + 0.5 * (prose.change or 0))
    assert found.scalar.stderr == pytest.approx(0.5 * math.hypot(code.stderr or 0, prose.stderr or 0))
    assert found.scalar.unpaired_stderr == pytest.approx(
        0.5 * math.hypot(code.unpaired_stderr or 0, prose.unpaired_stderr or 0)
    )
    assert found.scalar.df is not None and 99 < found.scalar.df <= 198, "Welch and Satterthwaite"
    assert found.scalar.interval is not None and found.scalar.change is not None
    assert found.scalar.interval.low < found.scalar.change < found.scalar.interval.high


def test_components_that_share_items_are_taken_together_in_the_scalar() -> None:
    scope = layout([str(i) for i in range(100)], [str(i) for i in range(100)], scope="one task")
    x, y = RNG.normal(size=(2, 100))

    def both(values: Any) -> list[Coordinate]:
        raw = {"measurement": {"raw": float(values.mean())}}
        return [coordinate(name, values.tolist(), items=items(scope, values), **raw) for name in ("acc", "acc_norm")]

    found = compare_sides([side(*both(x))], [side(*both(y))])
    assert found.scalar.stderr == pytest.approx(stats.sem(y - x)), "not 0.71 of it, as if they asked other questions"


def test_other_weights_have_no_common_scalar() -> None:
    code, prose = fields()
    found = compare_sides([side(code, prose)], [side(replace(code, weight=0.3), prose)])
    assert found.scalar.change is None
    assert found.scalar.reason == "not comparable: code has the weights 0.5 and 0.3"
    without = compare_sides([side(replace(code, weight=None))], [side(code)])
    assert without.scalar.reason == "no component has a weight"
    ignored = compare_sides([side(code, replace(prose, weight=0.0))], [side(code)])
    assert ignored.scalar.reason is None, "what counts for nothing may be missing"


def test_seeds_are_averaged_and_their_spread_stands_beside_the_items_error() -> None:
    before = [side(*fields(seed=1), label="a")]
    moves = [0.1, 0.3, 0.5]
    after = [side(*fields(move, seed=i + 2), label=f"s{i}") for i, move in enumerate(moves)]
    made = only(compare_sides(before, after), "code")
    assert made.after is not None and made.after.seeds.n == 3
    assert made.change == pytest.approx(0.3, abs=0.03)
    assert made.after.seeds.std == pytest.approx(0.2, abs=0.02)
    assert made.seed_stderr == pytest.approx((made.after.seeds.std or 0) * math.sqrt(1 + 1 / 3))
    singles = [only(compare_sides(before, [one]), "code") for one in after]
    assert all(one.seed_stderr is None for one in singles)
    assert made.change == pytest.approx(np.mean([one.change for one in singles]))
    scalar = compare_sides(before, after).scalar
    assert scalar.seed_stderr is not None and scalar.seed_stderr > 5 * (scalar.stderr or 1), "no item error holds it"


def test_a_seed_that_failed_or_lacks_a_component_is_never_averaged_away() -> None:
    code, prose = fields()
    broken = replace(code, measurement=failed("logprob_per_token", "no answer", n_items=100), items=NoItems("none"))
    seeds = [side(code, prose, label="s1"), side(broken, label="s2")]
    found = compare_sides([side(code, prose, label="a")], seeds)
    assert only(found, "code").status == "failed" and "s2: no answer" in str(only(found, "code").reason)
    assert only(found, "prose").status == "refused" and "s2 of the seeds does not have it" in str(
        only(found, "prose").reason
    )


def test_what_else_differs_is_remarked_on() -> None:
    code = fields()
    found = compare_sides(
        [side(*code, about={"dtype": "float32", "engine": "torch"})],
        [side(*code, about={"dtype": "bfloat16", "engine": "torch"})],
    )
    assert found.remarks == ("dtype differs: float32 before, bfloat16 after",)
    other = [side(*(replace(one, role="source") for one in code))]
    assert compare_sides([side(*code)], other).remarks == ("code is a target before and a source after, which counts",)


@pytest.mark.slow
def test_five_percent_of_comparisons_without_a_change_say_that_there_is_one() -> None:
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(1500):
        sides = []
        for _ in range(2):
            noise = rng.normal(scale=0.1, size=(4, 60))
            every = [coordinate(f"c{i}", (HARD[0, :60] + noise[i]).tolist()) for i in range(4)]
            sides.append([side(*every)])
        wrong += "within error" not in (said := compare_sides(*sides).said()) or len(said) > 1
    assert 0.035 < wrong / 1500 < 0.065, "over all four components together"


@pytest.mark.slow
def test_the_scalars_interval_holds_its_true_change_in_95_percent() -> None:
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(1500):
        few, many = rng.normal(scale=0.3, size=(2, 9)), rng.normal(scale=0.1, size=(2, 60))
        before, after = (
            [
                side(
                    coordinate("few", (HARD[0, :9] + few[i] + 0.2 * i).tolist(), weight=0.3),
                    coordinate("many", (HARD[1, :60] + many[i] - 0.1 * i).tolist(), weight=0.7),
                )
            ]
            for i in range(2)
        )
        limits = compare_sides(before, after).scalar.interval
        assert limits is not None
        hits += limits.low <= 0.3 * 0.2 - 0.7 * 0.1 <= limits.high
    assert 0.935 < hits / 1500 < 0.965, "nine items have eight degrees of freedom"


def test_seeds_of_the_same_weights_show_no_spread_and_that_is_said() -> None:
    befores = [side(*fields(seed=i), label=f"b{i}", fingerprint=f"b{i}") for i in range(2)]
    afters = [side(*fields(seed=5), label=f"a{i}", fingerprint="f") for i in range(2)]
    said = [remark for remark in compare_sides(befores, afters).remarks if "same weights" in remark]
    assert said == ["a0, a1 have the same weights, so they show no spread between seeds"]


def test_the_scalar_of_answers_that_did_not_flip_detects_no_more_than_they_do() -> None:
    still = [coordinate("quiz", [0.0] * 164, kind="lm_eval", measurement={"metric": "acc"})]
    found = compare_sides([side(*still)], [side(*still)])
    quiz = only(found, "quiz")
    assert quiz.detectable == pytest.approx(0.048, abs=0.001)
    assert found.scalar.detectable == pytest.approx(0.5 * quiz.detectable, rel=0.01)
    moved = compare_sides([side(*fields())], [side(*fields(seed=2))])
    assert moved.scalar.stderr is not None and moved.scalar.detectable is not None
    assert moved.scalar.detectable == pytest.approx(2.83 * moved.scalar.stderr, rel=0.02), (
        "as it was for values without bounds"
    )
