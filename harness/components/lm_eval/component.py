"""kind: lm_eval. A benchmark of lm-eval, or one of the paper's suites, as one coordinate: tasks -> answers -> metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, JsonValue, model_validator

from harness.components.lm_eval.evaluation import Evaluation, Prompting, shared
from harness.components.lm_eval.report import BenchmarkValue, items_of, report
from harness.core.component import BaseComponent, Check, ComponentConfig, Estimate, Outcome, Progress, Subject
from harness.core.defaults import Defaults
from harness.core.errors import SpecError
from harness.core.measurement import Measurement, failed
from harness.core.serving import ServeSettings
from harness.reward_models.benchmarks import Score, average
from harness.tasks.suites.build import Built, Wanted, build, choice_metrics_of, metrics_of
from harness.tasks.suites.catalog import Benchmark, benchmark_of, suites
from harness.tasks.suites.choices import CHOICE_METRICS
from harness.tasks.suites.data_source import DataSource
from harness.tasks.suites.identity import source
from harness.tasks.suites.sandbox import protection

if TYPE_CHECKING:
    from collections.abc import Mapping

SEED = 1234
"""lm-eval's own seed of few-shot sampling and generation."""
SUITE_METRIC = "mean of benchmarks"


class LmEvalConfig(ComponentConfig):
    """Keys of an lm-eval component."""

    kind: Literal["lm_eval"]
    task: str | None = Field(default=None, description="a task or group of lm-eval, of ours, or of include_path")
    suite: str | None = Field(
        default=None,
        description="instead of a task: the plain mean of this suite's benchmarks (docs/suites.md)",
        json_schema_extra=lambda schema: schema.update(examples=[*suites()]),
    )
    metric: str | None = Field(
        default=None,
        description='"acc", "acc_norm", "exact_match,strict-match" (metric,filter), of choices "norm_correct_prob_per_char" and '
        "others of its kind; default: the usual one of the benchmark, else the task's only one",
    )
    num_fewshot: int | None = Field(
        default=None,
        ge=0,
        description="examples in the prompt; default: the task's own. A task that is defined without keeps none",
    )
    limit: int | None = Field(default=None, ge=1, description="only the first so many documents of each task")
    include_path: list[str] = Field(
        default=[], description="folders of more lm-eval tasks (YAML), relative to the spec"
    )
    data: dict[str, DataSource] = Field(
        default={}, description="task or group -> where its data is, for machines without network"
    )
    system_instruction: str | None = Field(default=None, description="put before every prompt")
    apply_chat_template: bool = Field(default=False, description="render prompts with the checkpoint's chat template")
    fewshot_as_multiturn: bool | None = Field(
        default=None, description="examples as turns of the conversation; default: with apply_chat_template"
    )
    gen_kwargs: dict[str, JsonValue] = Field(
        default={}, description="generation options over the task's own: max_gen_toks, temperature, until, ..."
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        description="few-shot sampling, generation; default: the spec's, or 1234, lm-eval's, where that is 0",
    )
    timeout_s: float = Field(default=1800.0, gt=0, description="seconds until a generation must have ended")
    allow_code_execution: bool = Field(
        default=False, description="run programs that the model wrote (HumanEval, MBPP), in a sandbox"
    )

    def allowing_code_execution(self) -> Self:
        """With the programs of code benchmarks allowed to run."""
        return self.model_copy(update={"allow_code_execution": True})

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if (self.task is None) == (self.suite is None):
            raise ValueError("give either task or suite")
        if self.suite and self.suite not in suites():
            raise ValueError(f"suite {self.suite!r} is unknown; this version has {', '.join(suites())}")
        if self.suite and (self.metric or self.num_fewshot is not None):
            raise ValueError(
                "a suite has its own metrics and examples; for others, list its benchmarks as components of their own"
            )
        if self.fewshot_as_multiturn and not self.apply_chat_template:
            raise ValueError("fewshot_as_multiturn goes with apply_chat_template: true")
        return self


class LmEvalComponent(BaseComponent):
    """Tasks of lm-eval, built once and asked of any checkpoint. Components that ask the same share the answers."""

    Config = LmEvalConfig

    def __init__(
        self,
        config: LmEvalConfig,
        evaluation: Evaluation,
        metrics: Mapping[str, str],
        *,
        serve: ServeSettings | None = None,
    ) -> None:
        """`metrics`: task -> lm-eval's "metric,filter"."""
        self.config = config
        self.evaluation = evaluation
        self.metrics = metrics
        self.metric = SUITE_METRIC if config.suite else next(iter(metrics.values())).removesuffix(",none")
        self.n_items = sum(built.n_items for built in evaluation.built)
        self.chats = config.apply_chat_template
        self.served = any(built.generates for built in evaluation.built)
        self.higher_is_better = config.suite is not None or evaluation.built[0].higher_is_better(
            next(iter(metrics.values()))
        )
        self.definition: dict[str, JsonValue] = {
            "suite": config.suite,
            "metrics": dict(metrics),
            **evaluation.definition,
            **(_asked_of(serve) if self.served and serve else {}),
        }
        self.task: dict[str, JsonValue] = {
            "lm_eval": evaluation.definition["lm_eval"],
            **{f"task {name}": source(task) for built in evaluation.built for name, task in _few_tasks(built)},
        }

    @staticmethod
    def resolve(config: LmEvalConfig, folder: Path) -> LmEvalConfig:
        """Paths relative to the spec's folder become paths relative to here."""
        return config.model_copy(
            update={
                "include_path": [str(folder / path) for path in config.include_path],
                "data": {name: where.resolved(folder) for name, where in config.data.items()},
            }
        )

    @classmethod
    def load(cls, config: LmEvalConfig, defaults: Defaults) -> LmEvalComponent:
        """Build the tasks. Raises SpecError, or DataError naming every data set that is not there."""
        seed = _seed(config, defaults)
        chosen: Sequence[Benchmark | None] = (
            suites()[config.suite] if config.suite else [benchmark_of(config.task or "")]
        )
        wanted = _wanted(config, seed)
        turns = config.apply_chat_template if config.fewshot_as_multiturn is None else config.fewshot_as_multiturn
        prompting = Prompting(config.system_instruction, config.apply_chat_template, turns)
        evaluation = shared(
            wanted, prompting, seed=seed, batch_tokens=defaults.batch_tokens, timeout_s=config.timeout_s
        )
        used = {key for built in evaluation.built for key in built.data_used}
        if unknown := [key for key in config.data if key not in used]:
            raise SpecError(
                f"component {config.name}: data names {', '.join(unknown)}, which is no task or group of "
                f"{config.task or config.suite}"
            )
        metrics = {
            built.name: _metric(built, config.metric, usual)
            for built, usual in zip(evaluation.built, chosen, strict=True)
        }
        return cls(config, evaluation, metrics, serve=defaults.serve)

    @classmethod
    def parts(cls, config: LmEvalConfig, defaults: Defaults) -> dict[str, Callable[[], object]]:
        """A suite's benchmarks, each loaded by itself; nothing for a task."""
        if config.suite is None:
            return {}
        return {wanted.task: partial(build, wanted) for wanted in _wanted(config, _seed(config, defaults))}

    def estimate(self, subject: Subject) -> Estimate:
        """Requests, the tokens of their prompts, and the most that the tasks allow to be generated. Raises HarnessError."""
        return self.evaluation.estimate(subject)

    def checks(self) -> Iterator[Check]:
        """The questions of each task (read with the spec), and whether this machine can sandbox programs."""
        for built in self.evaluation.built:
            yield Check(name=f"task {built.name}", ok=True, words=f"{built.n_items} questions, version {built.version}")
            if any(getattr(task, "UNSAFE_CODE", False) for task in built.tasks.values()):
                files = protection().files
                words = f"programs run without network or other processes; files can be written in {files} alone"
                yield Check(name=f"sandbox for {built.name}", ok=protection().refusal is None, words=words)

    def measure(self, subject: Subject, progress: Progress, scratch: Path) -> Outcome:
        """Ask every question, unless a component with the same evaluation already did. Raises HarnessError."""
        answers = self.evaluation.on(subject, progress, scratch)
        reports = {
            built.name: report(built, self.metrics[built.name], answers.scores, answers.results)
            for built in self.evaluation.built
        }
        detail: dict[str, JsonValue] = {"limit": self.config.limit} if self.config.limit else {}
        detail |= {key: value for key, value in answers.counts.items() if value}
        made = self._suite(reports) if self.config.suite else next(iter(reports.values())).measurement(self.metric)
        return Outcome(
            measurement=made.model_copy(update={"detail": {**made.detail, **detail}}),
            engine=answers.engine,
            items=items_of(self.evaluation.built, self.metrics, answers.scores),
            n_open=sum(
                len(answers.scores[name].failed)
                for built in self.evaluation.built
                if built.generates
                for name in built.tasks
            ),
        )

    def _suite(self, reports: Mapping[str, BenchmarkValue]) -> Measurement:
        """The plain mean of the benchmarks; None while one of them has no value."""
        assert self.config.suite is not None
        benchmarks = suites()[self.config.suite]
        scores = {
            b.name: None if (r := reports[b.task]).value is None else Score(value=r.value, stderr=r.stderr)
            for b in benchmarks
        }
        mean = average(list(scores), scores)
        n_scored = sum(r.n_scored for r in reports.values())
        breakdown: dict[str, JsonValue] = {b.name: {**reports[b.task].row(), "chance": b.chance} for b in benchmarks}
        detail: dict[str, JsonValue] = {"suite": self.config.suite, "breakdown": breakdown}
        reasons = [f"{b.name}: {reason}" for b in benchmarks if (reason := reports[b.task].reason)]
        if mean.value is None:
            reason = f"no value for {', '.join(mean.missing)} ({'; '.join(reasons)})"
            return failed(SUITE_METRIC, reason, n_items=self.n_items).model_copy(update={"detail": detail})
        assert math.isfinite(mean.value)
        return Measurement(
            metric=SUITE_METRIC,
            raw=mean.value,
            stderr=mean.stderr,
            n_items=self.n_items,
            n_scored=n_scored,
            status="ok" if n_scored == self.n_items else "partial",
            reason="; ".join(reasons) or None,
            detail=detail,
        )


def _seed(config: LmEvalConfig, defaults: Defaults) -> int:
    return config.seed if config.seed is not None else defaults.seed or SEED


def _wanted(config: LmEvalConfig, seed: int) -> tuple[Wanted, ...]:
    """The tasks that are asked for: one, or a suite's."""
    names: list[tuple[str, int | None]]
    if config.suite:
        names = [(benchmark.task, benchmark.num_fewshot) for benchmark in suites()[config.suite]]
    else:
        assert config.task is not None
        names = [(config.task, config.num_fewshot)]
    return tuple(
        Wanted(
            task=task,
            num_fewshot=num_fewshot,
            limit=config.limit,
            gen_kwargs=config.gen_kwargs,
            data=config.data,
            seed=seed,
            allow_code_execution=config.allow_code_execution,
            include=tuple(config.include_path),
        )
        for task, num_fewshot in names
    )


def _asked_of(serve: ServeSettings) -> dict[str, JsonValue]:
    """Settings of a server that change answers: its context, to which prompts are cut, and its own options."""
    return {
        **({} if serve.max_model_len is None else {"max_model_len": serve.max_model_len}),
        **serve.options(),
    }


def _metric(built: Built, asked: str | None, usual: Benchmark | None) -> str:
    """lm-eval's "metric,filter": as asked, else the suite's, else the only one there is. Raises SpecError."""
    known = metrics_of(built)
    choices = [one for one in choice_metrics_of(built) if one not in known]
    if asked is None and usual is not None and usual.metric in known:
        return usual.metric
    if asked is None and len(known) == 1:
        return known[0]
    if asked is not None:
        matching = [one for one in known if one == asked or one.partition(",")[0] == asked]
        matching = matching or [one for one in choices if asked in (one, one.removesuffix(",none"))]
        if len(matching) == 1 or asked in matching:
            return asked if asked in matching else matching[0]
        if len(matching) > 1:
            raise SpecError(
                f"task {built.name}: {asked} comes with several filters; metric is one of {', '.join(matching)}"
            )
    what = f"has no metric {asked!r}" if asked else "has several metrics"
    also = f", or of its choices' probabilities {', '.join(CHOICE_METRICS)}" if choices else ""
    raise SpecError(
        f"task {built.name} {what}; metric is one of {', '.join(known) or 'none: the group forms no value'}{also}"
    )


def _few_tasks(built: Built) -> Iterator[tuple[str, object]]:
    """Tasks to name in the provenance: one of a group whose tasks share a data set, else all."""
    tasks = list(built.tasks.items())
    paths = {str(task.config.dataset_path) for _, task in tasks}
    yield from ([(built.name, tasks[0][1])] if built.group is not None and len(paths) == 1 else tasks)
