"""A gate's policy file: what it may hold, and messages that name the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import SpecError
from harness.reward_models.policy import Policy, Rule
from harness.spec.policy import load_policy, parse_policy

WHOLE = """
schema: harness.gate_policy/1
roles:
  source: {max_loss: 0.01, max_unscored: 0.02}
  target: {min_gain: 1e-3}
components:
  retail: {max_loss: 0}
scalar: {min_gain: 0}
ignore: [sums]
"""


def test_a_whole_policy(tmp_path: Path) -> None:
    (tmp_path / "gate.yaml").write_text(WHOLE)
    assert load_policy(tmp_path / "gate.yaml") == Policy(
        roles={"source": Rule(max_loss=0.01, max_unscored=0.02), "target": Rule(min_gain=0.001)},
        components={"retail": Rule(max_loss=0.0)},
        scalar=Rule(min_gain=0.0),
        ignore=["sums"],
    )


def test_a_tolerated_loss_is_a_threshold_below_zero() -> None:
    assert (Rule(max_loss=0.02).threshold, Rule(min_gain=0.02).threshold, str(Rule(max_loss=0).threshold)) == (
        -0.02,
        0.02,
        "0.0",
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "policy: it demands nothing; give a rule in roles, components or scalar"),
        ([], "policy: expected a mapping with roles, components or scalar, found list"),
        ({"component": {"a": {"max_loss": 1}}}, "unknown key 'component'; did you mean 'components'?"),
        ({"roles": {"sources": {"max_loss": 1}}}, "roles.sources"),
        (
            {"roles": {"source": {"max_los": 1}}},
            "policy: roles.source: unknown key 'max_los'; did you mean 'max_loss'?",
        ),
        ({"components": {"a": {"max_loss": -0.1}}}, "policy: components.a: max_loss: Input should be greater"),
        ({"components": {"a": {"max_loss": True}}}, "components.a: max_loss: expected a number, found true"),
        ({"components": {"a": {"max_loss": "1%"}}}, "components.a: max_loss: Input should be a valid number"),
        ({"components": {"a": {"max_loss": float("inf")}}}, "components.a: max_loss: Input should be a finite number"),
        ({"components": {"a": {"max_loss": 1, "min_gain": 1}}}, "components.a: give either max_loss or min_gain"),
        ({"components": {"a": {}}}, "components.a: give either max_loss or min_gain"),
        (
            {"components": {"a": 0.1}},
            "components.a: expected a rule such as {max_loss: 0.01} or {min_gain: 0.02}, found 0.1",
        ),
        ({"components": {"a": {"max_loss": 1, "max_unscored": 2}}}, "components.a: max_unscored: Input should be less"),
        ({"components": ["a"]}, "components: expected keys and values"),
        ({"scalar": {"min_gain": None}}, "policy: scalar: give either"),
        ({"components": {"a": {"max_loss": 1}}, "ignore": ["a"]}, "ignore: a has a rule in components"),
        ({"schema": "harness.gate_policy/2", "scalar": {"max_loss": 0}}, "schema 'harness.gate_policy/2' is not"),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_key(value: Any, message: str) -> None:
    with pytest.raises(SpecError) as error:
        parse_policy(value)
    assert message in str(error.value)


def test_a_file_that_is_not_there_or_says_something_twice(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no policy at .*gate.yaml; docs/compare.md has an example"):
        load_policy(tmp_path / "gate.yaml")
    (tmp_path / "gate.yaml").write_text("scalar: {max_loss: 1}\nscalar: {max_loss: 2}\n")
    with pytest.raises(SpecError, match="key 'scalar' stands twice"):
        load_policy(tmp_path / "gate.yaml")
