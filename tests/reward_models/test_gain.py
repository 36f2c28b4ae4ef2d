"""A vector's changes and errors: per item, with weights and directions, against the step it names, and None with a reason."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from samples import NONE, feed, measurement, vector
from scipy import stats

from harness.core.measurement import Measurement
from harness.core.vector import RewardVector
from harness.reward_models.evidence import Asked, HeldItems
from harness.reward_models.items import Floats, Items, items, layout
from harness.reward_models.reference import fit_reference
from harness.reward_models.vector import Standardization

FROZEN = Standardization(
    mode="frozen", reference=fit_reference(list(feed({"code": -1.0, "prose": -2.0}, {"code": -3.0, "prose": -6.0})))
)
RNG = np.random.default_rng(0)
N = 40


def of(values: Floats | list[float], scope: str = "", ids: list[str] | None = None) -> Items:
    names = ids or [str(i) for i in range(len(values))]
    return items(layout(names, names, scope=scope), values)


def measured(found: Items, **changes: Any) -> Measurement:
    settings = {"n_items": len(found.values), "n_scored": len(found.values), **changes}
    return measurement(found.mean, stats.sem(found.values) if len(found.values) > 1 else None, **settings)


def trajectory(
    rows: list[dict[str, Items]], changes: dict[str, dict[str, Any]] | None = None, **settings: Any
) -> list[RewardVector]:
    """A vector per row, at steps 0, 10, 20, ..., with all items at hand."""
    known: dict[Asked, Items] = {}
    vectors: list[RewardVector] = []
    for index, row in enumerate(rows):
        vectors.append(
            vector(
                {name: measured(found, **(changes or {}).get(name, {})) for name, found in row.items()},
                step=10 * index,
                history=vectors,
                evidence=HeldItems(current=row, known=dict(known)),
                **settings,
            )
        )
        known |= {Asked("a", 10 * index, name): found for name, found in row.items()}
    return vectors


def test_a_gain_has_the_error_of_its_weighted_paired_changes() -> None:
    hard = RNG.normal(size=(2, N))
    rows = [
        {
            "code": of(hard[0] + 0.1 * RNG.normal(size=N) - 5, "c"),
            "prose": of(hard[1] + 0.1 * RNG.normal(size=N) - 5, "p"),
        }
        for _ in range(3)
    ]
    last = trajectory(rows, weights=[0.75, -0.5])[2]
    d = {name: rows[2][name].values - rows[1][name].values for name in ("code", "prose")}
    assert [c.change for c in last.components] == pytest.approx([d["code"].mean(), d["prose"].mean()])
    assert [c.change_stderr for c in last.components] == pytest.approx([stats.sem(d["code"]), stats.sem(d["prose"])])
    assert last.gain == pytest.approx(0.75 * d["code"].mean() - 0.5 * d["prose"].mean())
    assert last.gain_stderr == pytest.approx(math.hypot(0.75 * stats.sem(d["code"]), 0.5 * stats.sem(d["prose"])))
    assert last.scalar_stderr is not None and last.scalar_stderr > 4 * last.gain_stderr
    assert last.previous_step == 10


def test_degrees_of_freedom_are_the_changes_and_the_gain_s_of_them() -> None:
    x = RNG.normal(size=(2, N)) - 5
    few = [{"code": of(row, "c"), "prose": of(row[:6], "p")} for row in x]
    last = trajectory(few, weights=[0.5, 0.5])[1]
    dfs = [c.change_df or 0 for c in last.components]
    assert 1 <= dfs[0] <= N - 1 and 1 <= dfs[1] <= 5
    v = [(0.5 * (c.change_stderr or 0)) ** 2 for c in last.components]
    assert last.gain_df == pytest.approx(sum(v) ** 2 / sum(one * one / df for one, df in zip(v, dfs, strict=True)))
    assert min(dfs) <= last.gain_df <= sum(dfs)
    right = [{"acc": of([float(i < k) for i in range(N)], "t")} for k in (10, 14)]
    assert trajectory(right)[1].components[0].change_df == N - 1, "answers, which McNemar tests without any"


def test_a_scalar_without_an_error_says_which_component_has_none() -> None:
    rows = [{"code": of([-1.0, -2.0, -2.5], "c"), "one": of([-1.0], "o")}] * 2
    first, second = trajectory(rows)
    for made in (first, second):
        assert made.scalar is not None and made.scalar_stderr is None
        assert "scalar_stderr is null: one has no error, its items are too few or all alike" in made.warnings
    assert not any("scalar_stderr" in w for v in trajectory(rows, weights=[1.0, 0.0]) for w in v.warnings)


def test_two_metrics_of_the_same_questions_are_taken_together() -> None:
    x, y = RNG.normal(size=(2, N)) - 5
    rows = [{"acc": of(x, "t"), "norm": of(x, "t")}, {"acc": of(y, "t"), "norm": of(y, "t")}]
    apart = [{"acc": of(x, "t"), "norm": of(x, "u")}, {"acc": of(y, "t"), "norm": of(y, "u")}]
    together, independent = trajectory(rows)[1].gain_stderr, trajectory(apart)[1].gain_stderr
    assert together == pytest.approx(stats.sem(y - x))
    assert independent == pytest.approx(stats.sem(y - x) / math.sqrt(2))


def test_a_component_that_is_better_lower_changes_in_its_own_unit_and_gains_negated() -> None:
    x, y = RNG.normal(size=(2, N)) + 5
    last = trajectory([{"ppl": of(x)}, {"ppl": of(y)}], {"ppl": {"higher_is_better": False}})[1]
    assert last.components[0].change == pytest.approx((y - x).mean())
    assert last.gain == pytest.approx(-(y - x).mean())
    assert last.gain_stderr == pytest.approx(stats.sem(y - x))
    assert last.gain_standardized is not None and last.gain_standardized * last.gain > 0  # type: ignore[operator]


def test_the_standardised_gain_takes_both_steps_by_the_later_mean_and_std() -> None:
    rows = [{"a": of(RNG.normal(size=N) - 5), "b": of(100 * RNG.normal(size=N) - 500)} for _ in range(4)]
    vectors = trajectory(rows)
    means = {name: np.array([row[name].mean for row in rows]) for name in ("a", "b")}
    expected = sum(0.5 * (m[3] - m[2]) / m.std() for m in means.values())
    assert vectors[3].gain_standardized == pytest.approx(expected)
    frozen = trajectory(
        [{"code": of(np.full(N, -1.0) + RNG.normal(size=N)), "prose": of(RNG.normal(size=N))} for _ in range(2)],
        standardization=FROZEN,
    )
    z = np.array([v.standardized for v in frozen], dtype=float)
    assert frozen[1].gain_standardized == pytest.approx((z[1] - z[0]).mean())
    assert trajectory(rows, standardization=NONE)[3].gain_standardized is None


def test_only_the_items_that_both_steps_scored_are_in_a_change() -> None:
    first = of([-1.0, -2.0, -3.0, -4.0], ids=list("abcd"))
    second = of([-1.5, -2.5, -9.0], ids=list("abe"))
    last = trajectory([{"code": first}, {"code": second}])[1]
    component = last.components[0]
    assert (component.change, component.n_paired, component.n_clusters) == (-0.5, 2, 3)
    assert last.gain == pytest.approx(second.mean - first.mean)
    assert last.gain_stderr is not None and last.gain_stderr > 1, "unlike items do not cancel"


def test_answers_without_a_success_are_no_certainty_in_any_derived_number() -> None:
    nothing, all_right = [0.0] * 18, [1.0] * 18
    vectors = trajectory([{"acc": of(nothing)}, {"acc": of(nothing)}, {"acc": of(all_right)}])
    assert [v.components[0].stderr for v in vectors] == [0.0] * 3, "lm-eval's, as it is"
    for value in vectors:
        interval = value.components[0].interval
        assert interval is not None and interval.high - interval.low > 0.1
        assert value.scalar_stderr == pytest.approx(1 / 18)
    assert all(v.gain_stderr and v.components[0].change_stderr for v in vectors[1:])
    assert vectors[2].components[0].reliability is not None
    assert 0.9 < vectors[2].components[0].reliability < 1


def test_reliability_is_the_residuals_and_shrunk_follows() -> None:
    hard = RNG.normal(size=N)
    x = hard - 5 + 0.1 * RNG.normal(size=(6, N)) + np.linspace(0, 0.5, 6)[:, None]
    vectors = trajectory([{"code": of(row)} for row in x])
    left = x - x.mean(0) - x.mean(1, keepdims=True) + x.mean()
    noise = (left**2).sum() / (5 * (N - 1)) / N
    last = vectors[5].components[0]
    assert last.reliability == pytest.approx(1 - noise / x.mean(1).var(ddof=1))
    assert last.reliability > 0.95
    assert last.standardized is not None
    assert last.shrunk == last.reliability * last.standardized
    assert vectors[0].components[0].reliability is None


def test_without_items_what_needs_them_is_none() -> None:
    before = vector({"code": -2.0, "prose": -3.0}, step=0)
    after = vector({"code": -1.0, "prose": -3.5}, step=10, history=[before])
    assert [c.change for c in after.components] == [1.0, -0.5], "both scored every item"
    assert [(c.change_stderr, c.n_paired, c.interval, c.reliability) for c in after.components] == [(None,) * 4] * 2
    assert (after.previous_step, after.gain, after.gain_stderr) == (0, 0.25, None)
    assert after.scalar_stderr == pytest.approx(math.hypot(0.05, 0.05))
    partial = vector(
        {"code": measurement(-1.0, n_scored=9, status="partial"), "prose": -3.5}, step=10, history=[before]
    )
    assert partial.components[0].change is None, "the items differ, and nobody knows which"
    assert vector({"code": measurement(-1.0, 0.0)}).scalar_stderr is None, "an error of 0 is no error"


def test_items_that_do_not_explain_a_value_are_said_in_a_warning() -> None:
    before = vector({"code": -2.0}, step=0)
    after = vector({"code": -1.0}, step=10, history=[before], evidence=HeldItems(current={}, known={}))
    assert "no paired error for code: not at hand" in after.warnings


def test_after_a_step_where_it_failed_a_component_has_no_change_and_that_is_said() -> None:
    now = of([-1.0, -2.0])
    before = vector({"code": None}, step=0)
    evidence = HeldItems(current={"code": now}, known={})
    after = vector({"code": measured(now)}, step=10, history=[before], evidence=evidence)
    assert after.components[0].change is None
    assert "no paired error for code: trajectory a step 0 has no value of it" in after.warnings


def test_what_cannot_be_compared_has_no_change() -> None:
    before = vector({"code": -2.0}, step=0)
    after = vector({"code": -1.0}, step=10, history=[before], spec="sha256:other")
    assert (after.gain, after.components[0].change, after.previous_step) == (None, None, None)
    assert any(w.startswith("gain is null: trajectory a step 0 was measured with another spec") for w in after.warnings)


def test_a_change_stands_where_another_component_failed_and_the_gain_is_none() -> None:
    before = vector({"code": -2.0, "prose": None}, step=0)
    after = vector({"code": -1.0, "prose": -3.0}, step=10, history=[before])
    assert (after.gain, after.previous_step) == (None, 0)
    assert [c.change for c in after.components] == [1.0, None]


def test_simulated_gain_errors_are_the_spread_of_gains() -> None:
    gains, errors = [], []
    hard = RNG.normal(size=60) - 5
    for _ in range(400):
        rows = [
            {"a": of(hard + 0.2 * RNG.normal(size=60), "x"), "b": of(hard + 0.3 * RNG.normal(size=60), "y")}
            for _ in range(2)
        ]
        last = trajectory(rows)[1]
        gains.append(last.gain)
        errors.append(last.gain_stderr)
    assert np.mean([e for e in errors if e is not None]) == pytest.approx(
        np.std([g for g in gains if g is not None]), rel=0.1
    )
