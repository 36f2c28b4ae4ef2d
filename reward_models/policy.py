"""What a gate demands: per component and role a tolerated loss or a demanded gain. Pure: a mapping in, rules out."""

from __future__ import annotations

from typing import Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from harness.core.measurement import Record
from harness.core.vector import Role

POLICY_SCHEMA: Final = "harness.gate_policy/1"


class Rule(Record):
    """One demand, in the unit of the component's values; where lower is better a loss is a rise."""

    max_loss: float | None = Field(default=None, ge=0, description="it may become worse by at most this much")
    min_gain: float | None = Field(default=None, ge=0, description="it must become better by at least this much")
    max_unscored: float = Field(
        default=0.0, ge=0, le=1, description="share of its items that may lack a score, on either side, in a pass"
    )

    @field_validator("max_loss", "min_gain", "max_unscored", mode="before")
    @classmethod
    def _is_a_number(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError(f"expected a number, found {str(value).lower()}")
        return value

    @model_validator(mode="after")
    def _one_demand(self) -> Self:
        if (self.max_loss is None) == (self.min_gain is None):
            raise ValueError("give either max_loss or min_gain")
        return self

    @property
    def threshold(self) -> float:
        """The improvement from which on the demand is met."""
        if self.min_gain is not None:
            return self.min_gain
        assert self.max_loss is not None
        return 0.0 - self.max_loss

    def __str__(self) -> str:
        return f"gain >= {self.min_gain:g}" if self.min_gain is not None else f"loss <= {self.max_loss:g}"


class Policy(Record):
    """A gate's policy file: rules by component, by role for the others, and for the scalar."""

    schema_: Literal["harness.gate_policy/1"] = Field(
        default=POLICY_SCHEMA, alias="schema", description="of the file; this one"
    )
    roles: dict[Role, Rule] = Field(
        default={}, description="source, target: for components without a rule of their own"
    )
    components: dict[str, Rule] = Field(default={}, description="component name -> its rule")
    scalar: Rule | None = Field(default=None, description="for the weighted sum (Eq. 6)")
    ignore: list[str] = Field(default=[], description="components that no rule of a role applies to")

    @model_validator(mode="after")
    def _demands_something(self) -> Self:
        if not (self.roles or self.components or self.scalar):
            raise ValueError("it demands nothing; give a rule in roles, components or scalar")
        both = [name for name in self.ignore if name in self.components]
        if both:
            raise ValueError(f"ignore: {', '.join(both)} has a rule in components")
        return self
