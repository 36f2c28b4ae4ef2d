"""A spec made ready: its fields read, its reference loaded, its identity computed. Touches no checkpoint."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import JsonValue

from harness.core.component import Component
from harness.core.digest import digest_json
from harness.core.errors import SpecError
from harness.reward_models.reference import Reference, parse_reference
from harness.reward_models.vector import Standardization
from harness.spec.kinds import component_class
from harness.spec.spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A spec with its fields read and its reference loaded: ready to measure any checkpoint."""

    spec: Spec
    components: tuple[Component, ...]
    standardization: Standardization
    digest: str
    """Identity of the spec: over its meaning and the content it names, not its formatting."""
    variables: Mapping[str, JsonValue] = field(default_factory=dict)
    """What the prompts are filled with, in a spec that varies something."""
    rows: tuple[Prepared, ...] = ()
    """One for each combination of the variables' values, in order; empty where the spec varies nothing."""

    def each(self) -> tuple[Prepared, ...]:
        """What becomes a vector of its own: every row, or the whole."""
        return self.rows or (self,)

    @property
    def n_items(self) -> int:
        """Items scored per checkpoint, at most."""
        return sum(component.n_items for row in self.each() for component in row.components)

    @property
    def served(self) -> bool:
        """Whether anything needs the checkpoint on a server."""
        return any(component.served for row in self.each() for component in row.components)

    def trajectory(self, name: str) -> str:
        """The trajectory that the vectors of this row belong to: each value's steps are compared among themselves."""
        values = ",".join(f"{key}={value}" for key, value in self.variables.items())
        return f"{name}[{values}]" if values else name

    @property
    def run(self) -> str:
        """Default name of a run, the same every time."""
        return f"run-{self.digest.removeprefix('sha256:')[:12]}"

    def definition(self, component: Component) -> str:
        """Identity of what a component measures."""
        return digest_json(component.definition)


def prepare(spec: Spec) -> Prepared:
    """Read everything the spec names, before any checkpoint is touched. Raises SpecError or DataError."""
    texts = json.dumps([config.model_dump(mode="json") for config in spec.components])
    for name in spec.vary:
        if f"{{{name}}}" not in texts:
            raise SpecError(f"vary: no component has {{{name}}} in its texts, so nothing would vary")
    combinations: list[dict[str, JsonValue]] = [
        dict(zip(spec.vary, values, strict=True)) for values in itertools.product(*spec.vary.values())
    ]
    tables = [_load(spec, values) for values in combinations]
    standardization = _standardization(spec)
    definitions = [{c.config.name: digest_json(c.definition) for c in components} for components in tables]
    for found in definitions:
        standardization.check(found)
    meanings: list[JsonValue] = [
        [
            [c.config.name, c.config.kind, c.config.role, weight, found[c.config.name]]
            for c, weight in zip(components, spec.weights(), strict=True)
        ]
        for components, found in zip(tables, definitions, strict=True)
    ]
    meaning: list[JsonValue] = [
        spec.schema_,
        standardization.mode,
        standardization.reference.id if standardization.reference else None,
        spec.dtype,
        spec.seed,
        list(map(list, zip(combinations, meanings, strict=True))) if spec.vary else meanings[0],
    ]
    rows = tuple(
        Prepared(
            spec=spec,
            components=components,
            standardization=standardization,
            digest=digest_json(meaning),
            variables=values,
        )
        for components, values in zip(tables, combinations, strict=True)
    )
    return replace(rows[0], variables={}, rows=rows) if spec.vary else rows[0]


def _load(spec: Spec, values: Mapping[str, JsonValue]) -> tuple[Component, ...]:
    configs = spec.filled(values) if values else spec.components
    return tuple(component_class(config.kind).load(config, spec) for config in configs)


def _standardization(spec: Spec) -> Standardization:
    if spec.standardize == "none":
        return Standardization(mode="none")
    if spec.standardize == "running":
        return Standardization(mode="running")
    return Standardization(mode="frozen", reference=read_reference(Path(spec.standardize)))


def read_reference(path: Path) -> Reference:
    """Load a frozen reference. Raises SpecError or DataError."""
    try:
        return parse_reference(json.loads(path.read_text(encoding="utf-8")), str(path))
    except FileNotFoundError as error:
        raise SpecError(f"no reference at {path}; `harness fit-reference FEED... -o {path}` makes one") from error
    except (OSError, ValueError) as error:
        raise SpecError(f"cannot read reference {path}: {error}") from error
