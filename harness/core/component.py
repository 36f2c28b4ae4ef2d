"""The protocol between the pipeline and whatever can be measured on a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import Field, JsonValue

from harness.core.measurement import Measurement, Record
from harness.core.vector import Role


class ComponentConfig(Record):
    """What every component of a spec has. Kinds add their own keys."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", description="unique in the spec; letters, digits, _.+-")
    kind: str
    role: Role = Field(default="target", description="whether the component stands for a source or a target domain")
    weight: float | None = Field(default=None, description="lambda of Eq. 6; default 1/|D|")


class Subject(Protocol):
    """An opened checkpoint. Model and tokenizer are loaded on first use."""

    def model(self) -> Any:
        """A transformers causal LM in evaluation mode, on its device. Raises CheckpointError."""
        ...

    def tokenizer(self) -> Any:
        """The checkpoint's own tokenizer. Raises CheckpointError."""
        ...

    def tokenizer_id(self) -> str:
        """Identity of the tokenizer by what it does: equal ids encode alike. Raises CheckpointError."""
        ...


class Progress(Protocol):
    """Told what has been done, so that someone can be shown."""

    def advance(self, *, pairs: int, tokens: int) -> None:
        """`pairs` items are finished; `tokens` tokens went through the model for them."""
        ...


class SilentProgress:
    """Shows nothing."""

    def advance(self, *, pairs: int, tokens: int) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Which engine produced a measurement, for the provenance."""

    name: str
    dtype: str | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A measurement with its per-item scores: columns of equal length, written as Parquet."""

    measurement: Measurement
    engine: Engine
    items: Mapping[str, Sequence[Any]] = field(default_factory=dict)


class Component(Protocol):
    """One coordinate of the reward vector."""

    config: ComponentConfig
    metric: str
    higher_is_better: bool
    n_items: int
    """Upper bound of the items to be scored per checkpoint, for progress."""
    definition: dict[str, JsonValue]
    """What is measured, as content: equal definitions give comparable numbers."""
    task: dict[str, JsonValue]
    """Where it came from (source, revision), for the provenance."""

    def measure(self, subject: Subject, progress: Progress) -> Outcome:
        """Measure one checkpoint. Raises HarnessError where the cause is known."""
        ...
