"""kind: logprob. A field's average per-token log-probability (Eq. 1): field -> token ids -> engine -> measurement."""

from __future__ import annotations

import glob
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, JsonValue, field_validator

from harness.core.component import BaseComponent, Check, ComponentConfig, Engine, Estimate, Outcome, Progress, Subject
from harness.core.defaults import Defaults
from harness.core.errors import SpecError
from harness.core.measurement import Measurement, failed
from harness.core.tokens import Fitted, Overflow, TokenSet, fit_context
from harness.reward_models.logprob import METRIC, measure_logprob
from harness.tasks.reward_env.catalog import is_named, load_field
from harness.tasks.reward_env.conversation import ConversationField
from harness.tasks.reward_env.encode import encode
from harness.tasks.reward_env.field import PairField
from harness.tasks.reward_env.file_field import FileFormat
from harness.tasks.reward_env.hub_field import expand_files
from harness.tasks.reward_env.token_store import stored_tokens
from harness.tasks.suites.texts import end_of, limit_of

if TYPE_CHECKING:
    from harness.engines.scoring.packs import PackPlan

TOKEN_SETS = 2
"""Token sets kept in memory: a sweep nearly always has one tokenizer."""


class LogprobConfig(ComponentConfig):
    """Keys of a log-prob component."""

    kind: Literal["logprob"]
    field: str = Field(description="a named field (`harness ls`), or a JSON, JSONL or YAML file, relative to the spec")
    format: FileFormat = Field(
        default="auto",
        description="of a data file: pairs (q, r), messages, sharegpt, alpaca, query, completion or preference",
    )
    chat_template: str | None = Field(
        default=None, description="Jinja file for conversations; default: the checkpoint's own"
    )
    revision: str | None = Field(default=None, description="of the data set on the hub; default: its newest")
    data_files: list[str] = Field(
        default=[], description="local copies read instead of the hub, patterns relative to the spec"
    )
    prompt: str | None = Field(default=None, description="put around every q of plain pairs: a text with {q} in it")
    system: str | None = Field(
        default=None, description="put before every conversation as its system message, or above the one it has"
    )
    limit: int | None = Field(default=None, ge=1, description="only the first so many pairs")

    @field_validator("prompt")
    @classmethod
    def _has_q(cls, value: str | None) -> str | None:
        if value is not None and value.count("{q}") != 1:
            raise ValueError("prompt must hold {q} once, where the question goes")
        return value


class LogprobComponent(BaseComponent):
    """A field, ready to be scored on any checkpoint. Token ids are computed once per tokenizer."""

    Config = LogprobConfig
    metric = METRIC
    rank = 0

    def __init__(self, config: LogprobConfig, field: Any, *, overflow: Overflow, batch_tokens: int | None) -> None:
        self.config = config
        self.field = field
        self.overflow: Overflow = overflow
        self.batch_tokens = batch_tokens
        self.n_items = len(field)
        self.definition: dict[str, JsonValue] = {"metric": METRIC, "content": field.digest, "overflow": overflow}
        self.task: dict[str, JsonValue] = {**field.source, "content": field.digest}
        self._token_sets: dict[str, TokenSet] = {}
        self._plans: dict[tuple[str, int], tuple[PackPlan, Fitted]] = {}
        self._shown: dict[str, list[Any]] = {}

    @staticmethod
    def resolve(config: LogprobConfig, folder: Path) -> LogprobConfig:
        """Paths relative to the spec's folder become paths relative to here."""
        return config.model_copy(
            update={
                "field": config.field if is_named(config.field) else _path(folder, config.field),
                "chat_template": config.chat_template and str(folder / config.chat_template),
                "data_files": [str(Path(glob.escape(str(folder))) / pattern) for pattern in config.data_files],
            }
        )

    @classmethod
    def load(cls, config: LogprobConfig, defaults: Defaults) -> LogprobComponent:
        """Read the field. Raises SpecError or DataError."""
        field = load_field(
            config.field,
            name=config.name,
            revision=config.revision,
            data_files=expand_files(config.data_files, Path()),
            file_format=config.format,
            chat_template=Path(config.chat_template) if config.chat_template else None,
        )
        if config.limit is not None:
            field = field.head(config.limit)
        if config.prompt is not None:
            if not isinstance(field, PairField):
                raise SpecError(
                    f"{config.name}: prompt goes with plain pairs; {config.field} holds conversations, so write it as "
                    "`system`, which is put before each"
                )
            field = field.prompted(config.prompt)
        if config.system is not None:
            if not isinstance(field, ConversationField):
                raise SpecError(
                    f"{config.name}: system goes with conversations; {config.field} holds plain pairs, so write it as "
                    "`prompt`, with {q} where the question goes"
                )
            field = field.introduced(config.system)
        return cls(config, field, overflow=defaults.overflow, batch_tokens=defaults.batch_tokens)

    def estimate(self, subject: Subject) -> Estimate:
        """Pairs and their tokens. Raises HarnessError."""
        tokens = self._tokens(subject)
        n_tokens = sum(len(pair.ids) for pair in tokens.pairs)
        return Estimate(requests=len(tokens.pairs), prompt_tokens=n_tokens, generated_tokens=0)

    def checks(self) -> Iterator[Check]:
        """The field was read when the spec was."""
        yield Check(name=f"field {self.config.field}", ok=True, words=f"{self.n_items} pairs")
        if self.field.caveat:
            yield Check(name=f"field {self.config.field}", ok=None, words=self.field.caveat)

    def measure(self, subject: Subject, progress: Progress, scratch: Path) -> Outcome:
        """Score every pair of the field. Raises HarnessError."""
        from harness.engines.models.load import context_length, dtype_name, first_non_finite
        from harness.engines.scoring.score import score

        tokens = self._tokens(subject)
        model = subject.model()
        engine = Engine(name="torch", dtype=dtype_name(model), device=next(model.parameters()).device.type)
        length = context_length(model, subject.tokenizer())
        plan, fitted = self._fitted(subject.tokenizer_id(), tokens, length)
        scores = score(model, plan, batch_tokens=self.batch_tokens, progress=progress)
        logprob = scores.logprob
        counts = {
            "n_skipped": len(fitted.skipped),
            "n_truncated": fitted.n_truncated,
            "n_boundary": tokens.n_boundary,
        }
        detail: dict[str, JsonValue] = {key: count for key, count in counts.items() if count}
        if self.field.caveat:
            detail["caveat"] = self.field.caveat
        if scores.proof is not None:
            detail["proof"] = scores.proof.as_json()
        measurement = measure_logprob(fitted.pairs, logprob, n_items=len(tokens.pairs), detail=detail)
        if measurement.status == "failed" and fitted.pairs:
            measurement = self._with_cause(measurement, first_non_finite(model))
        elif measurement.status == "failed":
            measurement = failed(
                METRIC,
                f"all {len(tokens.pairs)} pairs are longer than the model's context; shorten the field",
                n_items=len(tokens.pairs),
            )
        return Outcome(
            measurement=measurement,
            engine=engine,
            items={**_items(tokens, fitted.skipped, fitted.pairs, logprob), **self._texts(tokens)},
        )

    def _texts(self, tokens: TokenSet) -> dict[str, list[Any]]:
        """For display: the ends of the questions and the starts of the responses, in field order; empty for conversations."""
        if not isinstance(self.field, PairField) or len(self.field.content) != len(tokens.pairs):
            return {}
        if not self._shown:
            pairs, limit = self.field.content, limit_of(len(self.field.content))
            self._shown = {"prompt": [end_of(p.q, limit) for p in pairs], "target": [p.r[:limit] for p in pairs]}
        return self._shown

    def _tokens(self, subject: Subject) -> TokenSet:
        """The field under the subject's tokenizer: from memory, from disk, or encoded now."""
        key = subject.tokenizer_id()
        if key not in self._token_sets:
            while len(self._token_sets) >= TOKEN_SETS:
                self._token_sets.pop(next(iter(self._token_sets)))
            stored = stored_tokens(key, self.field.digest)
            tokens = stored.read()
            if tokens is None:
                tokens = encode(subject.tokenizer(), self.field.pairs(subject.tokenizer()))
                stored.write(tokens)
            self._token_sets[key] = tokens
        return self._token_sets[key]

    def _fitted(self, key: str, tokens: TokenSet, length: int) -> tuple[PackPlan, Fitted]:
        """What fits the context, packed: the same for every checkpoint of one tokenizer and context."""
        from harness.engines.scoring.packs import PackPlan

        if (key, length) not in self._plans:
            fitted = fit_context(tokens.pairs, length, self.overflow)
            while len(self._plans) >= TOKEN_SETS:
                self._plans.pop(next(iter(self._plans)))
            self._plans[key, length] = PackPlan(fitted.pairs), fitted
        return self._plans[key, length]

    @staticmethod
    def _with_cause(measurement: Measurement, weight: str | None) -> Measurement:
        cause = f"; weight {weight} holds NaN or infinity, so the checkpoint is broken" if weight else ""
        return measurement.model_copy(update={"reason": f"{measurement.reason}{cause}"})


def _path(folder: Path, name: str) -> str:
    """A file's path that cannot be mistaken for a named field: a file `prose` next to the spec becomes `./prose`."""
    path = str(folder / name)
    return f"./{path}" if is_named(path) else path


def _items(tokens: TokenSet, skipped: frozenset[int], scored: tuple[Any, ...], logprob: Any) -> dict[str, list[Any]]:
    """One row per pair of the field, in field order; a value that is not finite is None with status `failed`."""
    columns: dict[str, list[Any]] = {
        key: [] for key in ("id", "status", "n_tokens", "n_bytes", "logprob", "logprob_per_token", "cluster")
    }
    results = iter(zip(scored, np.asarray(logprob).tolist(), strict=True))
    for position, pair in enumerate(tokens.pairs):
        status, value = "skipped", None
        if position not in skipped:
            fitted, value = next(results)
            status = "truncated" if fitted.truncated else "ok"
            if not math.isfinite(value):
                status, value = "failed", None
        for key, entry in (
            ("id", pair.id),
            ("status", status),
            ("n_tokens", pair.n_tokens),
            ("n_bytes", pair.n_bytes),
            ("logprob", value),
            ("logprob_per_token", None if value is None else value / pair.n_tokens),
            ("cluster", pair.cluster),
        ):
            columns[key].append(entry)
    return columns
