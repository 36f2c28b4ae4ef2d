"""A gate passes what is shown, refuses what is shown broken, and lets nothing pass that was not measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from harness.core.measurement import Interval, Measurement, failed
from harness.reward_models.comparison import Comparison, compare_sides
from harness.reward_models.component_comparison import ComponentComparison, SideValue
from harness.reward_models.gate import Decision, Ruling, decide, worst
from harness.reward_models.items import NoItems, items, layout
from harness.reward_models.policy import Policy, Rule
from harness.reward_models.scalar_comparison import ScalarComparison
from harness.reward_models.seeds import seed_spread
from harness.reward_models.side import Coordinate, Side
from harness.reward_models.statistics import clustered_mean


def seen(n_items: int = 100, n_scored: int = 100, reason: str | None = None) -> SideValue:
    return SideValue(
        raw=0.5, stderr=0.05, n_items=n_items, n_scored=n_scored, status="ok", reason=reason, seeds=seed_spread([0.5])
    )


def row(
    name: str = "code", change: float | None = 0.0, half: float | None = 0.02, **changes: Any
) -> ComponentComparison:
    settings: dict[str, Any] = {
        "kind": "logprob",
        "role": "target",
        "metric": "logprob_per_token",
        "higher_is_better": True,
        "weight": 0.5,
        "status": "paired",
        "before": seen(),
        "after": seen(),
        "change": change,
        "stderr": None if half is None else half / 1.96,
        "interval": None if change is None or half is None else Interval(change - half, change + half),
        "n_paired": 100,
        **changes,
    }
    return ComponentComparison(name=name, **settings)


def compared(*rows: ComponentComparison, scalar: ScalarComparison | None = None) -> Comparison:
    return Comparison(
        before=("a",), after=("b",), components=rows, scalar=scalar or ScalarComparison(reason="no weight")
    )


def only(found: Comparison, policy: Policy) -> Ruling:
    (ruling,) = decide(found, policy).rulings
    return ruling


def code(**rule: float) -> Policy:
    return Policy(components={"code": Rule(**rule)})


@pytest.mark.parametrize(
    ("change", "rule", "decision"),
    [
        (0.0, {"max_loss": 0.03}, "GO"),
        (0.0, {"max_loss": 0.02}, "GO"),
        (0.0, {"max_loss": 0.01}, "INCONCLUSIVE"),
        (-0.02, {"max_loss": 0.01}, "INCONCLUSIVE"),
        (-0.04, {"max_loss": 0.01}, "NO-GO"),
        (0.05, {"max_loss": 0.0}, "GO"),
        (0.05, {"min_gain": 0.03}, "GO"),
        (0.04, {"min_gain": 0.03}, "INCONCLUSIVE"),
        (0.02, {"min_gain": 0.03}, "INCONCLUSIVE"),
        (0.0, {"min_gain": 0.03}, "NO-GO"),
    ],
)
def test_the_whole_interval_decides(change: float, rule: dict[str, float], decision: Decision) -> None:
    assert only(compared(row(change=change)), code(**rule)).decision == decision
    lower = row(change=-change, higher_is_better=False)
    ruling = only(compared(lower), code(**rule))
    assert (ruling.decision, ruling.improvement) == (decision, change), "where lower is better a rise is a loss"


def test_an_inconclusive_check_says_how_many_items_would_decide() -> None:
    ruling = only(compared(row(change=0.0)), code(max_loss=0.01))
    assert ruling.n_items_to_decide == round(100 * (2.8016 * (0.02 / 1.96) / 0.01) ** 2 + 0.5)
    assert ruling.n_items == 100
    assert only(compared(row(change=0.0)), code(max_loss=0.03)).n_items_to_decide is None, "decided already"
    assert only(compared(row(change=-0.01)), code(max_loss=0.01)).n_items_to_decide is None, "on the threshold"


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (row(change=None, half=None, status="failed", reason="b: no answer"), "failed: b: no answer"),
        (row(change=None, half=None, status="refused", reason="another tokenizer"), "refused: another tokenizer"),
        (row(change=None, half=None, status="only before", after=None, reason="after does not have it"), "only before"),
        (row(change=0.5, half=None, reason="too few clusters"), "too few clusters"),
        (row(change=0.5, half=None), "no interval"),
        (
            row(change=0.5, after=seen(n_scored=97, reason="3 timed out")),
            "3 of 100 items have no score \\(3 timed out\\)",
        ),
        (row(change=0.5, before=seen(n_scored=40)), "60 of 100 items have no score"),
    ],
)
def test_what_could_not_be_measured_is_never_a_pass(broken: ComponentComparison, words: str) -> None:
    for policy in (code(max_loss=0.2), Policy(roles={"target": Rule(max_loss=0.2)})):
        ruling = only(compared(broken), policy)
        assert ruling.decision == "INCONCLUSIVE"
        assert re.search(words, str(ruling.reason))


def test_a_share_without_a_score_may_be_allowed_and_what_is_broken_stays_broken() -> None:
    lacking = row(change=0.5, after=seen(n_scored=97))
    assert only(compared(lacking), code(max_loss=0.2, max_unscored=0.03)).decision == "GO"
    assert only(compared(lacking), code(max_loss=0.2, max_unscored=0.02)).decision == "INCONCLUSIVE"
    assert only(compared(row(change=-0.5, after=seen(n_scored=97))), code(max_loss=0.2)).decision == "NO-GO"


def test_a_rule_that_nothing_answers_to_is_inconclusive() -> None:
    made = decide(compared(row()), Policy(components={"code": Rule(max_loss=1), "cod": Rule(max_loss=1)}))
    assert [(c.name, c.decision) for c in made.rulings] == [("code", "GO"), ("cod", "INCONCLUSIVE")]
    assert made.rulings[1].reason == "neither side has it; there is code"
    roles = decide(compared(row()), Policy(roles={"source": Rule(max_loss=1)}))
    assert (roles.decision, roles.rulings[0].name, roles.unruled) == ("INCONCLUSIVE", "role source", ("code",))
    assert decide(compared(row(role=None)), Policy(roles={"target": Rule(max_loss=1)})).decision == "INCONCLUSIVE"


def test_a_role_that_ignore_leaves_nothing_of_is_no_pass() -> None:
    policy = Policy(roles={"target": Rule(max_loss=1)}, ignore=["code", "cod"])
    made = decide(compared(row()), policy)
    assert made.decision == "INCONCLUSIVE"
    assert [(one.name, one.reason) for one in made.rulings] == [("role target", "ignore leaves none of code")]
    assert made.unknown == ("cod",)


def test_a_components_own_rule_comes_before_its_roles() -> None:
    policy = Policy(
        roles={"target": Rule(min_gain=0.1), "source": Rule(max_loss=0.1)},
        components={"code": Rule(max_loss=0.1)},
        ignore=["sums"],
    )
    rows = [row("code"), row("arc"), row("sums"), row("prose", role="source")]
    made = decide(compared(*rows), policy)
    assert [(c.name, c.rule, c.decision) for c in made.rulings] == [
        ("code", "loss <= 0.1", "GO"),
        ("arc", "gain >= 0.1", "NO-GO"),
        ("prose", "loss <= 0.1", "GO"),
    ]
    assert made.unruled == ("sums",)
    assert made.decision == "NO-GO"


def test_the_scalar_has_a_rule_of_its_own() -> None:
    policy = Policy(scalar=Rule(max_loss=0.01))
    good = ScalarComparison(change=0.05, stderr=0.01, interval=Interval(0.03, 0.07))
    assert only(compared(row(), scalar=good), policy).decision == "GO"
    assert only(compared(row(after=seen(n_scored=99)), scalar=good), policy).decision == "INCONCLUSIVE"
    wide = ScalarComparison(change=0.0, stderr=0.01, interval=Interval(-0.02, 0.02))
    ruling = only(compared(row(), scalar=wide), policy)
    assert (ruling.decision, ruling.times_to_decide) == ("INCONCLUSIVE", pytest.approx(7.849, abs=1e-3))
    missing = only(compared(row(), scalar=ScalarComparison(reason="not comparable: x (failed)")), policy)
    assert (missing.decision, missing.reason) == ("INCONCLUSIVE", "not comparable: x (failed)")


def test_one_broken_demand_is_a_no_go_and_one_undecided_is_no_go_ahead() -> None:
    assert worst(["GO", "INCONCLUSIVE", "NO-GO"]) == "NO-GO"
    assert worst(["GO", "INCONCLUSIVE", "GO"]) == "INCONCLUSIVE"
    assert worst(["GO", "GO"]) == "GO"
    assert worst([]) == "INCONCLUSIVE", "nothing judged is nothing passed"


def measured(name: str, values: Sequence[float]) -> Side:
    ids = [str(i) for i in range(len(values))]
    mean = clustered_mean(values, ids)
    n = len(values)
    made = Measurement(metric="m", raw=mean.mean, stderr=mean.stderr, n_items=n, n_scored=n, status="ok")
    one = Coordinate(name="code", kind="k", measurement=made, items=items(layout(ids, ids), values))
    return Side(coordinates={"code": one}, label=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("truth", "go", "no_go"),
    [
        (-0.05, (0.015, 0.035), (0.015, 0.035)),  # on the threshold: either way once in forty
        (0.02, (0.995, 1.0), (0.0, 0.001)),
        (-0.12, (0.0, 0.001), (0.995, 1.0)),
    ],
)
def test_how_often_it_errs(truth: float, go: tuple[float, float], no_go: tuple[float, float]) -> None:
    rng = np.random.default_rng(5)
    hard = rng.normal(size=150)
    said: list[Decision] = []
    for _ in range(2000):
        before, after = hard + 0.1 * rng.normal(size=150), hard + truth + 0.1 * rng.normal(size=150)
        found = compare_sides([measured("a", before.tolist())], [measured("b", after.tolist())])
        said.append(only(found, code(max_loss=0.05)).decision)
    assert go[0] <= said.count("GO") / 2000 <= go[1]
    assert no_go[0] <= said.count("NO-GO") / 2000 <= no_go[1]


def test_a_failed_side_goes_all_the_way_to_inconclusive() -> None:
    broken = Coordinate(
        name="code", kind="k", measurement=failed("m", "no server", n_items=150), items=NoItems("it has no value")
    )
    found = compare_sides([measured("a", [0.0, 1.0, 1.0])], [Side(coordinates={"code": broken}, label="b")])
    ruling = only(found, code(max_loss=1.0))
    assert (ruling.decision, ruling.reason) == ("INCONCLUSIVE", "failed: b: no server")
