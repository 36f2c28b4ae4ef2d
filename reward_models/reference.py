"""The frozen per-component mean and standard deviation that standardise a reward, with an identity. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from harness.core.digest import digest_json
from harness.core.errors import DataError
from harness.core.measurement import Record, first_problem
from harness.core.vector import RewardVector
from harness.reward_models.statistics import spread

REFERENCE_SCHEMA: Final = "harness.reference/1"


class ReferenceComponent(Record):
    """One component's statistics over `n` measurements. `definition` identifies what was measured."""

    name: str
    metric: str
    definition: str | None
    mean: float
    std: float = Field(ge=0)
    n: int = Field(ge=1)


class Reference(Record):
    """What `harness fit-reference` writes. The id is the digest of everything else, so it cannot be edited unnoticed."""

    schema_: Literal["harness.reference/1"] = Field(default=REFERENCE_SCHEMA, alias="schema")
    id: str
    n: int = Field(ge=1)
    components: list[ReferenceComponent] = Field(min_length=1)

    @model_validator(mode="after")
    def _id_matches(self) -> Self:
        if self.id != _identity(self.n, self.components):
            raise ValueError("its id does not match its content; it was edited by hand, fit it again")
        return self

    def component(self, name: str) -> ReferenceComponent | None:
        """The statistics of a component, by name: the order of components does not matter."""
        return next((component for component in self.components if component.name == name), None)


def _identity(n: int, components: Sequence[ReferenceComponent]) -> str:
    return digest_json(
        [REFERENCE_SCHEMA, n, sorted((c.model_dump() for c in components), key=lambda c: str(c["name"]))]
    )


def parse_reference(value: Any, where: str) -> Reference:
    """Validate a reference read from `where`. Raises DataError."""
    declared = value.get("schema") if isinstance(value, dict) else None
    if declared != REFERENCE_SCHEMA:
        raise DataError(
            f"{where}: schema is {declared!r}, expected {REFERENCE_SCHEMA!r}; fit it with this version of harness"
        )
    try:
        return Reference.model_validate(value)
    except ValidationError as error:
        raise DataError(f"{where} is not a valid reference: {first_problem(error)}") from error


def fit_reference(vectors: Sequence[RewardVector]) -> Reference:
    """Mean and standard deviation per component over all steps of all trajectories (ddof 0).

    A failed measurement is left out, and `n` says how many entered. Raises DataError when there is no vector, when
    vectors do not measure the same things, or when a component was measured fewer than twice.
    """
    if not vectors:
        raise DataError("no reward vectors to fit a reference on; score some checkpoints first")
    first = vectors[0]
    names = [component.name for component in first.components]
    definitions = definitions_of(first)
    values: dict[str, list[float]] = {name: [] for name in names}
    for vector in vectors:
        here = {component.name: component for component in vector.components}
        if set(here) != set(names):
            raise DataError(
                f"{label(vector)} has components {', '.join(sorted(here))}, {label(first)} has {', '.join(sorted(names))}; "
                "fit a reference on feeds of one spec"
            )
        for name, definition in definitions_of(vector).items():
            if definition != definitions[name]:
                why = (
                    "their spec varies it; a reference is of one value of each variable, `standardize: running` is of all"
                    if vector.variables != first.variables
                    else "its field, template or revision changed; fit a reference on feeds of one spec"
                )
                raise DataError(f"{label(vector)} and {label(first)} measure different things as {name!r}: {why}")
            raw = here[name].raw
            if raw is not None:
                values[name].append(raw)
    components = []
    for component in first.components:
        measured = values[component.name]
        if len(measured) < 2:
            raise DataError(
                f"component {component.name!r} was measured {len(measured)} time(s); a reference needs at least two checkpoints"
            )
        mean, std = spread(measured)
        components.append(
            ReferenceComponent(
                name=component.name,
                metric=component.metric,
                definition=definitions[component.name],
                mean=mean,
                std=std,
                n=len(measured),
            )
        )
    return Reference(id=_identity(len(vectors), components), n=len(vectors), components=components)


def definitions_of(vector: RewardVector) -> dict[str, str | None]:
    """Component name -> digest of what was measured, as its provenance recorded it; None where it did not."""
    tasks: Mapping[str, Mapping[str, Any]] = vector.provenance.tasks
    return {component.name: tasks.get(component.name, {}).get("definition") for component in vector.components}


def label(vector: RewardVector) -> str:
    """A vector's place in its run, for messages."""
    step = "" if vector.step is None else f" step {vector.step}"
    return f"trajectory {vector.trajectory}{step}"
