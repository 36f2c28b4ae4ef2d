"""A spec made ready: its fields read, its reference loaded, its identity computed. Touches no checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from harness.core.component import Component
from harness.core.digest import digest_json
from harness.core.errors import SpecError
from harness.plugins import component_class
from harness.reward_models.reference import Reference, parse_reference
from harness.reward_models.vector import Standardization
from harness.spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A spec with its fields read and its reference loaded: ready to measure any checkpoint."""

    spec: Spec
    components: tuple[Component, ...]
    standardization: Standardization
    digest: str
    """Identity of the spec: over its meaning and the content it names, not its formatting."""

    @property
    def n_items(self) -> int:
        """Items scored per checkpoint, at most."""
        return sum(component.n_items for component in self.components)

    @property
    def run(self) -> str:
        """Default name of a run, the same every time."""
        return f"run-{self.digest.removeprefix('sha256:')[:12]}"

    def definition(self, component: Component) -> str:
        """Identity of what a component measures."""
        return digest_json(component.definition)


def prepare(spec: Spec) -> Prepared:
    """Read everything the spec names, before any checkpoint is touched. Raises SpecError or DataError."""
    components = tuple(component_class(config.kind).load(config, spec) for config in spec.components)
    definitions = {c.config.name: digest_json(c.definition) for c in components}
    standardization = _standardization(spec)
    standardization.check(definitions)
    meaning: list[JsonValue] = [
        spec.schema_,
        standardization.mode,
        standardization.reference.id if standardization.reference else None,
        spec.dtype,
        spec.seed,
        [
            [c.config.name, c.config.kind, c.config.role, weight, definitions[c.config.name]]
            for c, weight in zip(components, spec.weights(), strict=True)
        ],
    ]
    return Prepared(spec=spec, components=components, standardization=standardization, digest=digest_json(meaning))


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
