"""The reward vector as it stands in a feed: `harness.reward_vector/1` (docs/reward-vector.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from harness.core.endpoint import How
from harness.core.measurement import Measurement, Record, Status
from harness.core.place import Place

VECTOR_SCHEMA: Final = "harness.reward_vector/1"
Role = Literal["source", "target"]
CheckpointKind = Literal["full", "lora", "hub", "live"]
ReferenceMode = Literal["frozen", "running", "none"]


class _Identity(Record):
    """What a component is called; first in the JSON, before what was measured."""

    name: str
    kind: str
    role: Role


class ComponentRecord(Measurement, _Identity):
    """One coordinate: the measurement, and what standardisation, the spec and the previous step make of it.

    `change` is raw minus raw of the vector's `previous_step`, over the `n_paired` items that both scored, in the unit of
    `raw`; `change_stderr` is paired and `change_df` its degrees of freedom.

    Of a source: `loss` since `best_step`, the best one before (positive where it is worse now, in the unit of `raw`), and
    `loss_bound`, what was lost at least, over all looks at a trajectory. `alarm`: whether that is beyond `allowed_loss`;
    None where nothing can be said.
    """

    standardized: float | None = None
    shrunk: float | None = None
    reliability: float | None = Field(default=None, ge=0, le=1)
    weight: float
    change: float | None = None
    change_stderr: float | None = Field(default=None, ge=0)
    n_paired: int | None = Field(default=None, ge=1)
    change_df: float | None = Field(default=None, gt=0)
    allowed_loss: float | None = Field(default=None, ge=0)
    best_step: int | None = Field(default=None, ge=0)
    loss: float | None = None
    loss_bound: float | None = None
    alarm: bool | None = None


class CheckpointRecord(Record):
    """Which weights were measured. `fingerprint` identifies them; `path` only says where they were found."""

    path: str
    kind: CheckpointKind
    base: str | None = None
    revision: str | None = None
    fingerprint: str | None = None
    tokenizer: str | None = None
    tokens_seen: int | None = Field(default=None, ge=0)


class Mixture(Record):
    """The weights the trainer says it used: non-negative, not all zero, not necessarily summing to 1.

    With `sizes` (tokens, or any one unit, of each domain's data) the weights are multipliers w_d of data sets, as in
    Agent Data Protocol: rho_d is proportional to w_d * size_d. Without, the weights are in proportion to rho themselves.
    """

    domains: list[str] = Field(min_length=1)
    weights: list[float]
    sizes: list[float] | None = Field(default=None, exclude_if=lambda sizes: sizes is None)

    @model_validator(mode="before")
    @classmethod
    def _sizes_by_name(cls, value: Any) -> Any:
        """Sizes given as a table, in the order of the domains."""
        if not isinstance(value, Mapping):
            return value
        sizes, domains = value.get("sizes"), value.get("domains")
        if not isinstance(sizes, Mapping) or not isinstance(domains, list):
            return value
        names = [str(name) for name in domains]
        if missing := [name for name in names if name not in sizes]:
            raise ValueError(f"sizes: no size for {', '.join(missing)}")
        if unknown := [str(name) for name in sizes if name not in names]:
            raise ValueError(f"sizes: {', '.join(unknown)} has no weight; a weight of 0 says that it was not used")
        return {**value, "sizes": [sizes[name] for name in names]}

    @field_validator("weights", "sizes", mode="before")
    @classmethod
    def _are_numbers(cls, value: Any) -> Any:
        for one in value if isinstance(value, list) else ():
            if isinstance(one, bool):
                raise ValueError(f"expected a number, found {str(one).lower()}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.domains) != len(self.weights):
            raise ValueError(f"{len(self.domains)} domains but {len(self.weights)} weights")
        if len(set(self.domains)) != len(self.domains):
            raise ValueError("a domain is named twice")
        if any(weight < 0 for weight in self.weights) or sum(self.weights) <= 0:
            raise ValueError("weights must be non-negative and not all zero")
        if self.sizes is not None:
            if len(self.sizes) != len(self.domains):
                raise ValueError(f"{len(self.domains)} domains but {len(self.sizes)} sizes")
            if any(size <= 0 for size in self.sizes):
                raise ValueError("sizes must be positive")
        amounts = self._amounts()
        if not (math.isfinite(sum(amounts)) and sum(amounts) > 0):
            raise ValueError("weights are too large or too small to be shares")
        return self

    def _amounts(self) -> list[float]:
        if self.sizes is None:
            return self.weights
        return [weight * size for weight, size in zip(self.weights, self.sizes, strict=True)]

    @classmethod
    def parse(cls, value: Any) -> Mixture:
        """From `{"domains": [...], "weights": [...]}` or from a plain table `{"code": 0.3, "prose": 0.7}`.

        Either form takes `sizes`: a table by domain, or a list in the domains' order. A number under that name in a plain
        table is a domain's weight. Raises pydantic's ValidationError (a ValueError).
        """
        if isinstance(value, Mixture):
            return value
        if isinstance(value, Mapping) and "domains" not in value:
            table = dict(value)
            sizes = table.pop("sizes") if isinstance(table.get("sizes"), Mapping | list) else None
            domains, weights = [str(name) for name in table], list(table.values())
            return cls.model_validate({"domains": domains, "weights": weights, "sizes": sizes})
        return cls.model_validate(value)

    def normalized(self) -> dict[str, float]:
        """rho: the weights (times the sizes, where there are any) divided by their sum."""
        amounts = self._amounts()
        total = sum(amounts)
        return {domain: amount / total for domain, amount in zip(self.domains, amounts, strict=True)}


class ReferenceRecord(Record):
    """The mean and standard deviation that standardised this vector, in component order; None where undefined.

    `n` is the number of vectors they were computed from. `id` is set for a frozen reference.
    """

    id: str | None
    mode: ReferenceMode
    mean: list[float | None]
    std: list[float | None]
    n: int = Field(ge=0)


class Provenance(Record):
    """What produced the numbers.

    `served`: how the checkpoint came onto its server, where it was on one. `products`: the library of float32 matrix products on
    a CPU, fixed for a run. `host` and `executor`: where it was measured, and by which executor (`local`, `processes`, `ray`);
    several are joined by `+`. `host`, `executor`, `started` (UTC, ISO 8601) and `seconds` are the only fields that differ on a re-run.
    """

    harness: str
    spec: str
    engine: str | None
    dtype: str | None
    device: str | None
    served: How | None = None
    products: str | None = None
    host: str | None = None
    executor: str | None = None
    packages: dict[str, str]
    tasks: dict[str, dict[str, JsonValue]]
    seed: int
    started: str
    seconds: float = Field(ge=0)


class RewardVector(Record):
    """The ordered measurements of one checkpoint (Eq. 2 of arXiv 2507.15640), raw and standardised.

    `variables`: the values that the spec's prompts were filled with, where it varies any. `previous_step` is the step
    that `gain` and every `change` are against: the highest earlier one of the trajectory.
    """

    schema_: Literal["harness.reward_vector/1"] = Field(default=VECTOR_SCHEMA, alias="schema")
    run: str
    trajectory: str
    step: int | None = Field(ge=0)
    status: Status
    checkpoint: CheckpointRecord
    mixture: Mixture | None = None
    variables: dict[str, JsonValue] = Field(default_factory=dict)
    components: list[ComponentRecord] = Field(min_length=1)
    vector: list[float | None]
    standardized: list[float | None]
    reference: ReferenceRecord
    scalar: float | None
    scalar_stderr: float | None = Field(default=None, ge=0)
    gain: float | None
    gain_stderr: float | None = Field(default=None, ge=0)
    gain_standardized: float | None = None
    gain_df: float | None = Field(default=None, gt=0)
    previous_step: int | None = Field(default=None, ge=0)
    warnings: list[str] = Field(default_factory=list)
    provenance: Provenance

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [component.name for component in self.components]
        if len(set(names)) != len(names):
            raise ValueError("a component is named twice")
        if self.vector != [component.raw for component in self.components]:
            raise ValueError("vector does not equal the components' raw values")
        if self.standardized != [component.standardized for component in self.components]:
            raise ValueError("standardized does not equal the components' standardized values")
        for label, values in (("mean", self.reference.mean), ("std", self.reference.std)):
            if len(values) != len(names):
                raise ValueError(f"reference.{label} has {len(values)} entries for {len(names)} components")
        return self

    @property
    def place(self) -> Place:
        """Where the vector stands in its feed."""
        return Place(self.trajectory, self.step)

    @property
    def alarms(self) -> list[ComponentRecord]:
        """The source components that have lost more than they may since their best step."""
        return [component for component in self.components if component.alarm]

    def to_line(self) -> str:
        """One line of a feed. Numbers survive the round trip bit for bit."""
        return self.model_dump_json(by_alias=True)
