"""A file of weights, as `harness validate` writes it and `harness score --weights` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationError, field_validator

from harness.core.component import ComponentConfig
from harness.core.errors import SpecError, why_unreadable
from harness.core.measurement import Record, describe
from harness.core.written_json import read_json
from harness.spec.spec import Spec

WEIGHTS_SCHEMA: Final = "harness.weights/1"


class Weights(Record):
    """lambda of Eq. 6 by component."""

    schema_: Literal["harness.weights/1"] = Field(default=WEIGHTS_SCHEMA, alias="schema")
    weights: dict[str, float] = Field(min_length=1)

    @field_validator("weights", mode="before")
    @classmethod
    def _are_numbers(cls, value: Any) -> Any:
        for name, weight in value.items() if isinstance(value, Mapping) else ():
            if isinstance(weight, bool) or not isinstance(weight, int | float):
                raise ValueError(f"the weight of {name} is {weight!r}; it must be a number such as 0.25")
        return value


def read_weights(path: Path) -> dict[str, float]:
    """From a file. Raises SpecError."""
    try:
        value = read_json(path)
    except FileNotFoundError as error:
        raise SpecError(f"no weights at {path}; `harness validate ... -o {path}` writes them") from error
    except (OSError, ValueError) as error:
        raise SpecError(f"cannot read weights {path}: {why_unreadable(error)}") from error
    if not isinstance(value, dict) or value.get("schema") != WEIGHTS_SCHEMA:
        raise SpecError(f'{path}: expected {{"schema": "{WEIGHTS_SCHEMA}", "weights": {{"code": 0.7, "prose": 0.3}}}}')
    try:
        return Weights.model_validate(value).weights
    except ValidationError as error:
        raise SpecError(f"{path}: {describe(error, Weights)}") from error


def weighted(spec: Spec, weights: Mapping[str, float], *, where: str) -> Spec:
    """The spec with these weights in the place of its own. Raises SpecError unless each component has one, and no other."""
    names = [component.name for component in spec.components]
    if missing := [name for name in names if name not in weights]:
        raise SpecError(
            f"{where} has no weight for {', '.join(missing)}; a weight of 0 leaves a component out of the scalar"
        )
    if unknown := [name for name in weights if name not in names]:
        raise SpecError(f"{where} has a weight for {', '.join(unknown)}, which the spec does not measure")
    components = []
    for config in spec.components:
        try:
            checked = ComponentConfig(name=config.name, kind=config.kind, weight=weights[config.name])
        except ValidationError as error:
            raise SpecError(f"{where}: {config.name}: {describe(error, ComponentConfig)}") from error
        components.append(config.model_copy(update={"weight": checked.weight}))
    return spec.model_copy(update={"components": components})
