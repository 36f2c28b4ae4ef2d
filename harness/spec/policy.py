"""A gate's policy file (YAML), read and checked. Messages name the key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.core.errors import SpecError
from harness.core.measurement import describe, kind_of
from harness.reward_models.policy import POLICY_SCHEMA, Policy, Rule
from harness.spec.spec import read_yaml

HINT = "docs/compare.md has an example"


def load_policy(path: Path) -> Policy:
    """Read a policy file. Raises SpecError."""
    return parse_policy(read_yaml(path, what="policy", hint=HINT), where=str(path))


def parse_policy(value: Any, *, where: str = "policy") -> Policy:
    """Validate a policy given as Python data. Raises SpecError naming the key."""
    if not isinstance(value, Mapping):
        raise SpecError(f"{where}: expected a mapping with roles, components or scalar, found {kind_of(value)}; {HINT}")
    declared = value.get("schema", POLICY_SCHEMA)
    if declared != POLICY_SCHEMA:
        raise SpecError(
            f"{where}: schema {declared!r} is not {POLICY_SCHEMA!r}; this version of harness reads only that"
        )
    for group in ("roles", "components"):
        rules = value.get(group, {})
        for name, rule in rules.items() if isinstance(rules, Mapping) else ():
            _check_rule(rule, where=f"{where}: {group}.{name}")
    if value.get("scalar") is not None:
        _check_rule(value["scalar"], where=f"{where}: scalar")
    try:
        return Policy.model_validate(value)
    except ValidationError as error:
        raise SpecError(f"{where}: {describe(error, Policy)}") from error


def _check_rule(rule: Any, *, where: str) -> None:
    if not isinstance(rule, Mapping):
        raise SpecError(f"{where}: expected a rule such as {{max_loss: 0.01}} or {{min_gain: 0.02}}, found {rule!r}")
    try:
        Rule.model_validate(rule)
    except ValidationError as error:
        raise SpecError(f"{where}: {describe(error, Rule)}") from error
