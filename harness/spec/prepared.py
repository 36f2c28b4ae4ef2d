"""A spec made ready: its fields read, its reference loaded, its identity computed. Touches no checkpoint."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from harness.core.checkpoint import Checkpoint
from harness.core.component import ALLOWED_LOSS, Component
from harness.core.digest import digest_json
from harness.core.errors import SpecError, why_unreadable
from harness.core.place import Place, suffix
from harness.reward_models.reference import Reference, parse_reference
from harness.reward_models.vector import Standardization
from harness.spec.kinds import component_class
from harness.spec.spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One combination of the spec's `vary` values with its components: one vector per checkpoint.

    A spec that varies nothing has a single row without variables.
    """

    components: tuple[Component, ...]
    definitions: Mapping[str, str]
    """Name -> identity of what the component measures."""
    variables: Mapping[str, JsonValue]
    """What the prompts are filled with."""

    @property
    def suffix(self) -> str:
        """What the row adds to the name of a trajectory: `[alpha=1]`, or nothing."""
        return suffix(self.variables)

    def place(self, checkpoint: Checkpoint) -> Place:
        """Where the row's vector of a checkpoint belongs: the steps of each row are a trajectory of their own."""
        return Place(f"{checkpoint.trajectory}{self.suffix}", checkpoint.step)

    @property
    def n_items(self) -> int:
        """Items scored per checkpoint, at most."""
        return sum(component.n_items for component in self.components)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A spec with its fields read and its reference loaded: ready to measure any checkpoint."""

    spec: Spec
    rows: tuple[Row, ...]
    """At least one, in the order of the variables' values."""
    standardization: Standardization
    digest: str
    """Identity of the spec: over its meaning and the content it names, not its formatting."""

    @property
    def components(self) -> tuple[Component, ...]:
        """The components of every row."""
        return tuple(component for row in self.rows for component in row.components)

    @property
    def n_items(self) -> int:
        """Items scored per checkpoint, at most."""
        return sum(row.n_items for row in self.rows)

    @property
    def served(self) -> bool:
        """Whether anything needs the checkpoint on a server."""
        return any(component.served for component in self.components)

    @property
    def run(self) -> str:
        """Default name of a run, the same every time."""
        return f"run-{self.digest.removeprefix('sha256:')[:12]}"


def prepare(spec: Spec) -> Prepared:
    """Read everything the spec names, before any checkpoint is touched. Raises SpecError or DataError."""
    texts = json.dumps([config.model_dump(mode="json") for config in spec.components])
    for name in spec.vary:
        if f"{{{name}}}" not in texts:
            raise SpecError(
                f"vary: no component has {{{name}}} in its texts (prompt, system, instructions, system_instruction, file "
                "names), so nothing would vary; the data's own texts are never filled"
            )
    combinations: list[dict[str, JsonValue]] = [
        dict(zip(spec.vary, values, strict=True)) for values in itertools.product(*spec.vary.values())
    ]
    rows = tuple(_row(spec, values) for values in combinations)
    standardization = _standardization(spec)
    for row in rows:
        standardization.check(row.definitions)
    return Prepared(spec=spec, rows=rows, standardization=standardization, digest=_digest(spec, rows, standardization))


def _row(spec: Spec, values: Mapping[str, JsonValue]) -> Row:
    configs = spec.filled(values) if values else spec.components
    components = tuple(component_class(config.kind).load(config, spec.defaults) for config in configs)
    definitions = {component.config.name: digest_json(component.definition) for component in components}
    return Row(components=components, definitions=definitions, variables=values)


def _digest(spec: Spec, rows: tuple[Row, ...], standardization: Standardization) -> str:
    meanings: list[JsonValue] = [
        [
            [
                *(c.config.name, c.config.kind, c.config.role, weight, row.definitions[c.config.name]),
                # Left out at its default, so that runs made before the key existed can be resumed.
                *([c.config.allowed_loss] if c.config.allowed_loss not in (None, ALLOWED_LOSS) else []),
            ]
            for c, weight in zip(row.components, spec.weights(), strict=True)
        ]
        for row in rows
    ]
    combinations: list[JsonValue] = [dict(row.variables) for row in rows]
    return digest_json(
        [
            spec.schema_,
            standardization.mode,
            standardization.reference.id if standardization.reference else None,
            spec.dtype,
            spec.seed,
            list(map(list, zip(combinations, meanings, strict=True))) if spec.vary else meanings[0],
        ]
    )


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
        raise SpecError(f"cannot read reference {path}: {why_unreadable(error)}") from error
