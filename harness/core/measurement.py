"""A component's value for one checkpoint: never a bare float, and a failure is a value too."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

Status = Literal["ok", "partial", "failed"]


class Record(BaseModel):
    """Base of what crosses the border: frozen, unknown keys refused, NaN and infinity refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_by_name=True)


def _all_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(_all_finite(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(_all_finite(item) for item in value)
    return True


class Measurement(Record):
    """Raw value with standard error, counts and status.

    `raw` and `stderr` are in the metric's unit (`logprob_per_token`: nats per token, at most 0). `raw` is null
    exactly when `status` is `failed`; `stderr` may be null when it cannot be estimated (a single item).
    """

    metric: str
    higher_is_better: bool = True
    raw: float | None
    stderr: float | None = Field(default=None, ge=0)
    n_items: int = Field(ge=0)
    n_scored: int = Field(ge=0)
    status: Status
    reason: str | None = None
    detail: dict[str, JsonValue] = Field(default_factory=dict)

    @field_validator("detail")
    @classmethod
    def _detail_is_finite(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if not _all_finite(value):
            raise ValueError("detail holds NaN or infinity; write null")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.raw is None) != (self.status == "failed"):
            raise ValueError(f"status {self.status!r} does not go with raw {self.raw!r}")
        if self.status == "failed" and not self.reason:
            raise ValueError("a failed measurement needs a reason")
        if self.n_scored > self.n_items:
            raise ValueError(f"n_scored {self.n_scored} exceeds n_items {self.n_items}")
        return self


def failed(metric: str, reason: str, *, n_items: int = 0, higher_is_better: bool = True) -> Measurement:
    """A measurement that could not be made, with its cause."""
    return Measurement(
        metric=metric,
        higher_is_better=higher_is_better,
        raw=None,
        n_items=n_items,
        n_scored=0,
        status="failed",
        reason=reason,
    )
