"""Keys of `kind: inspect` in a spec. Reads nothing and imports no Inspect."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from harness.core.chat_config import ChatConfig
from harness.core.component import ComponentConfig
from harness.core.sampling import unfit_sampling
from harness.tasks.suites.data_source import DataSource
from harness.tasks.suites.families import families

CHECKPOINT = "checkpoint"
"""A role's model: the checkpoint that is measured."""
HARNESS = "harness"
"""A sandbox: ours, for programs that a scorer runs."""

IN_FILE = re.compile(r"(?P<file>.+\.py)(?:@(?P<name>[^@/]+))?")
"""A task in a file; folders may have an @ in their names."""


class InspectConfig(ComponentConfig):
    """Keys of an inspect component."""

    kind: Literal["inspect"]
    task: str | None = Field(
        default=None,
        description='"inspect_evals/NAME", "PACKAGE/NAME" of an installed package, or "FILE.py@NAME" relative to the spec',
    )
    suite: str | None = Field(
        default=None,
        description="instead of a task: the plain mean of the benchmarks of this family (docs/suites.md)",
        json_schema_extra=lambda schema: schema.update(examples=[*families()]),
    )
    args: dict[str, JsonValue] = Field(default={}, description="arguments of the task, as `inspect eval -T`")
    limit: int | None = Field(default=None, ge=1, description="only the first so many samples")
    sample_ids: list[str | int] = Field(default=[], description="only these samples, by their ids in the task")
    epochs: int | None = Field(default=None, ge=1, description="times each sample is asked; default: the task's own")
    reducer: str | None = Field(
        default=None,
        description="how a sample's epochs become one score: mean, mode, max, pass_at_2, ...; default: the task's",
    )
    metric: str | None = Field(
        default=None, description='"accuracy", or "SCORER/METRIC"; default: the first metric of the first scorer'
    )
    scorer: str | None = Field(
        default=None, description="which of the task's scorers gives the value; default: the first"
    )
    higher_is_better: bool = Field(default=True, description="whether a higher value of the metric is a better one")
    cluster: str | None = Field(
        default=None,
        description="key of the samples' metadata that says which belong together; default: each stands alone",
    )
    generate: dict[str, JsonValue] = Field(
        default={},
        description="options of generation over the task's own: temperature, max_tokens, seed, stop_seqs, ...",
    )
    roles: dict[str, ChatConfig] = Field(
        default={}, description="other models that take part (user, grader); model: checkpoint is the measured one"
    )
    message_limit: int | None = Field(default=None, ge=1, description="messages of a sample; default: the task's")
    token_limit: int | None = Field(default=None, ge=1, description="tokens of a sample; default: the task's")
    turn_limit: int | None = Field(default=None, ge=1, description="answers of a sample; default: the task's")
    time_limit: int | None = Field(default=None, ge=1, description="seconds of a sample; default: the task's")
    working_limit: int | None = Field(
        default=None, ge=1, description="seconds of a sample without its waiting; default: the task's"
    )
    sandbox: str | None = Field(
        default=None,
        description="docker, k8s, harness (ours: for programs that a scorer runs), local, none, or TYPE:CONFIG; default: the task's own",
    )
    data: dict[str, DataSource] = Field(
        default={}, description="data set on the hub (owner/name) -> where its data is, for machines without network"
    )
    fetch: bool = Field(
        default=False, description="fetch what the task is made of and is not on this machine, when the spec is read"
    )
    allow_code_execution: bool = Field(
        default=False, description="run programs that the model wrote on this machine (sandbox: harness or local)"
    )
    request_timeout_s: float = Field(default=1800.0, gt=0, description="seconds of one answer")
    attempts: int = Field(default=8, ge=1, description="attempts at one answer when an endpoint fails")
    max_concurrency: int | None = Field(default=None, ge=1, description="samples in flight; default: serve.parallel")

    def allowing_code_execution(self) -> Self:
        """With programs allowed to run."""
        return self.model_copy(update={"allow_code_execution": True})

    @property
    def file(self) -> Path | None:
        """The file that defines the task; None for a task of a package."""
        assert self.task is not None
        found = IN_FILE.fullmatch(self.task)
        return Path(found["file"]) if found else None

    @property
    def name_in_file(self) -> str | None:
        """Name of the task in its file; None where none is given, as the file then has only one."""
        assert self.task is not None
        found = IN_FILE.fullmatch(self.task)
        return found["name"] if found else None

    def resolved(self, folder: Path) -> Self:
        """Paths relative to the spec's folder become paths relative to here."""
        changes: dict[str, Any] = {"data": {name: where.resolved(folder) for name, where in self.data.items()}}
        if self.task is not None and self.file is not None:
            name = self.name_in_file
            changes["task"] = f"{folder / self.file.expanduser()}{f'@{name}' if name else ''}"
        kind, _, where = (self.sandbox or "").partition(":")
        if where:
            changes["sandbox"] = f"{kind}:{(folder / Path(where).expanduser()).absolute()}"
        return self.model_copy(update=changes)

    @field_validator("generate")
    @classmethod
    def _only_sampling(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        inner = value.get("extra_body")
        if wrong := unfit_sampling(value) or (unfit_sampling(inner) if isinstance(inner, dict) else None):
            raise ValueError(wrong)
        return value

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if (self.task is None) == (self.suite is None):
            raise ValueError("give either task or suite")
        if self.suite is not None:
            if self.suite not in families():
                raise ValueError(f"suite {self.suite!r} is unknown; this version has {', '.join(families())}")
            ours = {"name", "kind", "role", "weight", "allowed_loss", "suite", "limit", "roles", "data", "generate"}
            ours |= {"allow_code_execution", "fetch", "request_timeout_s", "attempts", "max_concurrency"}
            if extra := sorted(self.model_fields_set - ours):
                raise ValueError(
                    f"a suite has its members' own {', '.join(extra)}; to change them, list its members as components of their own"
                )
        if self.limit is not None and self.sample_ids:
            raise ValueError("give limit or sample_ids, not both")
        if self.reducer is not None and self.epochs is None:
            raise ValueError("reducer goes with epochs")
        if self.scorer is not None and self.metric is not None and "/" in self.metric:
            raise ValueError("metric names a scorer already; give scorer and a plain metric, or SCORER/METRIC alone")
        if self.task is not None and self.file is None and (self.task.count("/") != 1 or ".py" in self.task):
            raise ValueError(f"task {self.task!r} is neither PACKAGE/NAME nor FILE.py@NAME")
        return self
