"""A component's value for one checkpoint: never a bare float, and a failure is a value too."""

from __future__ import annotations

import difflib
from typing import Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

Status = Literal["ok", "partial", "failed"]


class Record(BaseModel):
    """Base of records that are read from or written to files: frozen, unknown keys refused, NaN and infinity refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_by_name=True,
        hide_input_in_errors=True,  # what was given may be a key
        json_schema_serialization_defaults_required=True,
    )


SHAPES = {
    "list_type": "expected a list: [a, b], or a line each that begins with `- `",
    "dict_type": "expected keys and values: {key: value}, or a line `key: value` each",
}
"""What is said where a value has another shape than the one of its key, by pydantic's type of error."""


def first_problem(error: ValidationError) -> str:
    """The first problem, and the key it is at, in one line."""
    problem = error.errors()[0]
    where = ".".join(str(step) for step in problem["loc"])
    what = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what


def kind_of(value: object) -> str:
    """What a file holds instead of keys and values, in words: `nothing (it is empty)`, or the name of the type."""
    return "nothing (it is empty)" if value is None else type(value).__name__


def describe(error: ValidationError, model: type[Record]) -> str:
    """A validation error in one line: where, what, and the nearest key where one was misspelt."""
    known = [field.alias or name for name, field in model.model_fields.items()]
    parts = []
    for item in error.errors():
        where = ".".join(str(step) for step in item["loc"])
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
            parts.append(f"unknown key {where!r}; {hint}")
        elif item["type"] == "missing":
            parts.append(f"key {where!r} is missing")
        else:
            message = SHAPES.get(item["type"]) or item["msg"].removeprefix("Value error, ")
            given = item["input"]
            # A text is shown where a word or a number was asked for: elsewhere it may be a key in the wrong place.
            asked = item["type"] in ("literal_error", "int_parsing", "float_parsing", "bool_parsing")
            if (isinstance(given, str) and asked and len(given) <= 20) or (
                item["type"] != "value_error" and isinstance(given, bool | int | float)
            ):
                message += f", not {given!r}"
            parts.append(f"{where}: {message}" if where and not message.startswith(where) else message)
    return "; ".join(parts)


class Interval(NamedTuple):
    """Where a value lies with a confidence of 95%, in its unit; `[low, high]` in JSON."""

    low: float
    high: float


class Measurement(Record):
    """Raw value with standard error, counts and status.

    `raw` and `stderr` are in the metric's unit (`logprob_per_token`: nats per token, at most 0). `raw` is None
    exactly when `status` is `failed`; `stderr` may be None when it cannot be estimated (a single item).
    `interval` and `n_clusters` are filled in from the items when a vector is assembled; None where no items are at hand.
    """

    metric: str
    higher_is_better: bool = True
    raw: float | None
    stderr: float | None = Field(default=None, ge=0)
    interval: Interval | None = None
    n_items: int = Field(ge=0)
    n_scored: int = Field(ge=0)
    n_clusters: int | None = Field(default=None, ge=1)
    status: Status
    reason: str | None = None
    detail: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.raw is None) != (self.status == "failed"):
            raise ValueError(f"status {self.status!r} does not go with raw {self.raw!r}")
        if self.status == "failed" and not self.reason:
            raise ValueError("a failed measurement needs a reason")
        if self.n_scored > self.n_items:
            raise ValueError(f"n_scored {self.n_scored} exceeds n_items {self.n_items}")
        if self.status == "ok" and self.n_scored != self.n_items:
            raise ValueError(f"status 'ok' does not go with {self.n_scored} of {self.n_items} items scored")
        return self


def is_open(measurement: Measurement) -> bool:
    """Whether another attempt may come to more: it failed, or `detail.n_open` items lacked an endpoint or a judge."""
    return measurement.status == "failed" or bool(measurement.detail.get("n_open"))


def failed(metric: str, reason: str, *, n_items: int = 0, higher_is_better: bool = True) -> Measurement:
    """A measurement that could not be made, with its cause (a path in it need not be UTF-8; the reason is)."""
    reason = reason.encode("utf-8", "replace").decode()
    return Measurement(
        metric=metric,
        higher_is_better=higher_is_better,
        raw=None,
        n_items=n_items,
        n_scored=0,
        status="failed",
        reason=reason,
    )
