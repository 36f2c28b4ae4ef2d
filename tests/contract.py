"""What every component keeps to, whoever wrote it. Run over the table of kinds and over a package of its own (spec/test_contract.py)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.core.component import Check, Component, ComponentConfig, Estimate, Outcome, SilentProgress
from harness.core.defaults import Defaults
from harness.core.measurement import Measurement
from harness.reward_models.items import Items, scored_items
from harness.spec.kinds import component_class


class Counting(SilentProgress):
    """How many items were said to be finished."""

    def __init__(self) -> None:
        self.items = 0

    def advance(self, *, items: int, tokens: int) -> None:
        assert items >= 0 and tokens >= 0
        self.items += items


def load(kind: str, keys: dict[str, Any], folder: Path) -> Component:
    """The component as a spec in `folder` loads it."""
    found = component_class(kind)
    config = found.Config.model_validate({"name": "it", "kind": kind, **keys})
    return found.load(found.resolve(config, folder), Defaults())


def check_configuration(kind: str, keys: dict[str, Any]) -> None:
    """Keys are validated, unknown ones refused, and the schema says what each means."""
    config_class = component_class(kind).Config
    assert issubclass(config_class, ComponentConfig)
    config = config_class.model_validate({"name": "it", "kind": kind, **keys})
    assert config_class.model_validate(json.loads(config.model_dump_json())) == config
    try:
        config_class.model_validate({"name": "it", "kind": kind, **keys, "no_such_key": 1})
    except ValidationError:
        pass
    else:
        raise AssertionError("an unknown key was taken")
    own = {name: field for name, field in config_class.model_fields.items() if name not in ComponentConfig.model_fields}
    assert all(field.description for name, field in own.items() if name != "kind"), "every key says what it means"


def check_description(component: Component) -> None:
    """What it says of itself can be stored and compared."""
    assert component.metric and isinstance(component.higher_is_better, bool)
    assert component.n_items > 0 and component.rank in (0, 1, 2)
    for flag in (component.served, component.chats, component.calls_tools):
        assert isinstance(flag, bool)
    for record in (component.definition, component.task):
        assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert component.definition
    for check in component.checks():
        assert isinstance(check, Check) and check.name and check.words


def check_measurement(component: Component, subject: Any, scratch: Path) -> Outcome:
    """One measurement keeps its promises, and the same again is the same."""
    estimate = component.estimate(subject)
    assert isinstance(estimate, Estimate) and estimate.requests >= 0
    progress = Counting()
    outcome = component.measure(subject, progress, scratch)
    measurement = outcome.measurement
    assert isinstance(measurement, Measurement)
    assert (measurement.metric, measurement.higher_is_better) == (component.metric, component.higher_is_better)
    assert 0 <= measurement.n_scored <= measurement.n_items <= component.n_items
    assert measurement.raw is None or math.isfinite(measurement.raw)
    assert Measurement.model_validate_json(measurement.model_dump_json()) == measurement
    assert progress.items == component.n_items, "progress ends where it said it would"
    columns = {name: list(column) for name, column in outcome.items.items()}
    assert columns and len({len(column) for column in columns.values()}) == 1 and "id" in columns
    assert len(set(map(str, columns["id"]))) == len(columns["id"]) == measurement.n_items
    found = scored_items(columns, measurement, component.task)
    assert isinstance(found, Items), f"its items do not explain its value, so nothing is paired: {found}"
    assert all((scratch / name).exists() for name in outcome.files)
    again = component.measure(subject, SilentProgress(), scratch)
    assert again.measurement.raw == measurement.raw
    return outcome
