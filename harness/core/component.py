"""The protocol between the pipeline and whatever can be measured on a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from pydantic import Field, JsonValue, ValidationInfo, field_validator, model_validator

from harness.core.defaults import Defaults
from harness.core.endpoint import Endpoint, How
from harness.core.measurement import Measurement, Record
from harness.core.vector import Role

SMALLEST_WEIGHT, LARGEST_WEIGHT = 1e-9, 1e9
"""Bounds of |lambda| where it is not 0: a weighted sum neither overflows nor loses a component to rounding."""

ALLOWED_LOSS = 0.02
"""What a source component may lose since its best step before an alarm: two points of an accuracy or a reward, 2% of a perplexity."""


class ComponentConfig(Record):
    """What every component of a spec has. Kinds add their own keys."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", description="unique in the spec; letters, digits, _.+-")
    kind: str = Field(description="which kind of measurement it is; the tables below have the keys of each")
    role: Role = Field(default="target", description="whether the component stands for a source or a target domain")
    weight: float | None = Field(default=None, description="lambda of Eq. 6; default 1/|D|")
    allowed_loss: float | None = Field(
        default=None,
        ge=0,
        description="of a source component: what it may lose since its best step before an alarm, in the unit of its value; "
        f"default {ALLOWED_LOSS}",
    )

    @field_validator("weight", "allowed_loss", mode="before")
    @classmethod
    def _number(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{value!r} is no number; {str(info.field_name).replace('_', ' ')} is one such as 0.25")
        return value

    @field_validator("weight", mode="before")
    @classmethod
    def _of_common_size(cls, value: Any) -> Any:
        if value is None or isinstance(value, bool) or not isinstance(value, int | float):
            return value
        if math.isfinite(value) and value and not SMALLEST_WEIGHT <= abs(value) <= LARGEST_WEIGHT:
            raise ValueError(
                f"{value!r} is beyond {SMALLEST_WEIGHT:g} to {LARGEST_WEIGHT:g}; give a weight of common size"
            )
        return value

    @model_validator(mode="after")
    def _only_a_source_is_watched(self) -> Self:
        if self.allowed_loss is not None and self.role != "source":
            raise ValueError(
                "allowed_loss is of a component that must not be forgotten; add role: source, or leave it out"
            )
        return self

    def allowing_code_execution(self) -> Self:
        """The configuration with programs that a model wrote allowed to run; as it is where the kind runs none."""
        return self


class Subject(Protocol):
    """An opened checkpoint. Model and tokenizer are loaded on first use.

    ids = subject.tokenizer()("def f(x):")["input_ids"]
    logits = subject.model()(input_ids=torch.tensor([ids])).logits  # measured in process
    endpoint = subject.endpoint()                                   # or over HTTP: endpoint.api_base, endpoint.model
    """

    def model(self) -> Any:
        """A transformers causal LM in evaluation mode, on its device. Raises CheckpointError."""
        ...

    def tokenizer(self) -> Any:
        """The checkpoint's own tokenizer. Raises CheckpointError."""
        ...

    def tokenizer_id(self) -> str:
        """Identity of the tokenizer by what it does: equal ids encode alike. Raises CheckpointError."""
        ...

    def notes(self) -> list[str]:
        """What a reader of its numbers should know, one sentence each; it becomes part of every measurement's detail."""
        ...

    def endpoint(self) -> Endpoint:
        """Where the checkpoint is served; starts a server, or loads the checkpoint on a running one, if necessary.

        Blocks until the server answers, and is cheap when it already does. A client that gets no answer calls this again,
        which restarts a server that died. Callable from any thread. Raises SpecError, CheckpointError or EngineError.
        """
        ...


class Progress(Protocol):
    """Receives what has been done, for display."""

    def advance(self, *, items: int, tokens: int) -> None:
        """`items` items are finished; `tokens` tokens went through the model for them."""
        ...


class SilentProgress:
    """Shows nothing."""

    def advance(self, *, items: int, tokens: int) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Which engine produced a measurement, for the provenance. `served`: how the checkpoint came onto its server; `note`: what a reader of
    the number should know about that.
    """

    name: str
    dtype: str | None = None
    device: str | None = None
    served: How | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A measurement with its per-item scores: columns of equal length, written as Parquet.

    `items` has `id` (unique, and the same for every checkpoint) and `value` (None where an item was not scored), whose mean is
    `measurement.raw`: then changes from step to step are paired item by item and have an error. `cluster` groups items that are
    not independent. Any other column is for display only.
    `files`: names in the scratch folder of what is kept for inspection. `n_open`: items that failed for reasons outside the
    checkpoint (an endpoint, a judge), so that a later call may complete them.
    """

    measurement: Measurement
    engine: Engine
    items: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    files: Sequence[str] = ()
    n_open: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a component asks of one checkpoint: requests, tokens read and tokens written; None where it cannot be known."""

    requests: int
    prompt_tokens: int | None = None
    generated_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One finding of `harness doctor`: what was checked, whether it is as it should be (None: a warning), and a message."""

    name: str
    ok: bool | None
    words: str


class Component(Protocol):
    """One coordinate of the reward vector. `BaseComponent` has what most kinds have in common.

    A complete example, `kind: entropy` in a package of its own, is in examples/plugin.
    """

    config: ComponentConfig
    metric: str
    higher_is_better: bool
    n_items: int
    """Upper bound of the items to be scored per checkpoint, for progress."""
    definition: dict[str, JsonValue]
    """What is measured, as content: equal definitions give comparable numbers."""
    task: dict[str, JsonValue]
    """Where it came from (source, revision), for the provenance."""

    rank: int
    """Cheapest first: 0 for log-probabilities in process, 1 for benchmarks, 2 for what is served and simulated."""
    served: bool
    """Whether the checkpoint has to be on a server."""
    chats: bool
    """Whether it asks through the checkpoint's chat template."""
    calls_tools: bool
    """Whether the server has to read tool calls out of the checkpoint's answers."""

    def measure(self, subject: Subject, progress: Progress, scratch: Path) -> Outcome:
        """Measure one checkpoint. Raises HarnessError where the cause is known.

        `scratch` is a folder (not made yet) that is the same whenever these weights are measured by this definition: what
        is put there survives a kill, and a later call goes on from it.
        """
        ...

    def estimate(self, subject: Subject) -> Estimate:
        """What measuring one checkpoint will ask of it. Loads its tokenizer at most. Raises HarnessError."""
        ...

    def checks(self) -> Iterable[Check]:
        """What can be found out about files, data sets and endpoints in seconds, without any checkpoint."""
        ...


class BaseComponent:
    """What a component has unless it says otherwise: measured in process by the model itself, nothing to check beforehand."""

    metric: str
    n_items: int
    definition: dict[str, JsonValue]
    task: dict[str, JsonValue]
    higher_is_better = True
    rank = 1
    served = False
    chats = False
    calls_tools = False

    @staticmethod
    def resolve(config: Any, folder: Path) -> Any:
        """The configuration with paths relative to the spec's folder made relative to here; as it is where it has none."""
        return config

    def estimate(self, subject: Subject) -> Estimate:
        """A request per item; tokens are not known."""
        return Estimate(requests=self.n_items)

    def checks(self) -> Iterable[Check]:
        """Nothing."""
        return ()


class Kind(Protocol):
    """The class behind a kind, as the table and the entry points name it. Its instances are Components."""

    Config: type[ComponentConfig]

    @staticmethod
    def resolve(config: Any, folder: Path) -> Any:
        """The configuration with paths relative to the spec's folder made relative to here. Reads nothing."""
        ...

    @classmethod
    def load(cls, config: Any, defaults: Defaults) -> Component:
        """Read whatever it measures with, before any checkpoint is touched. Raises SpecError or DataError."""
        ...
