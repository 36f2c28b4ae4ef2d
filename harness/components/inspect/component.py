"""A task of Inspect AI on the served checkpoint: built once, run by Inspect's own `eval`, its answers counted here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from harness.components.inspect.checks import refuse_sandboxes, warnings_of
from harness.components.inspect.config import InspectConfig
from harness.components.inspect.identity import definition, gives_tools
from harness.components.inspect.report import metric_names, report
from harness.components.inspect.roles import refuse_unnamed
from harness.components.inspect.run import LOGS, check_providers, check_roles, run
from harness.components.inspect.task import Built, build
from harness.core.component import BaseComponent, Check, Engine, Estimate, Outcome, Progress, Subject
from harness.core.defaults import Defaults
from harness.core.serving import ServeSettings


class InspectComponent(BaseComponent):
    """A task with its samples in memory, asked of any checkpoint."""

    Config = InspectConfig
    rank = 2
    served = True
    chats = True

    def __init__(self, config: InspectConfig, built: Built, serve: ServeSettings) -> None:
        self.config = config
        self.built = built
        self.serve = serve
        self.metric = metric_names(built.task, config)
        self.higher_is_better = config.higher_is_better
        self.n_items = built.n_items
        self.calls_tools = gives_tools(built)
        self.definition: dict[str, JsonValue] = definition(config, built, serve, metric=self.metric)
        self.task: dict[str, JsonValue] = {
            "inspect": str(self.definition["inspect_ai"]),
            "source": " ".join(built.package) if built.package else "file",
            "task": built.name,
            "version": str(built.task.version),
            "samples": self.definition["samples"],
        }

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its configuration and built anew: a task consists of functions, which cannot be pickled."""
        return _again, (self.config, self.serve)

    @staticmethod
    def resolve(config: InspectConfig, folder: Path) -> InspectConfig:
        """Paths relative to the spec's folder become paths relative to here."""
        return config.resolved(folder)

    @classmethod
    def load(cls, config: InspectConfig, defaults: Defaults) -> InspectComponent:
        """Build the task. Raises SpecError, within seconds, for anything that is not available here."""
        check_roles(config.roles, config.name)
        return _again(config, defaults.serve)

    def estimate(self, subject: Subject) -> Estimate:
        """A request per sample and epoch, a lower bound: the number of turns is not known."""
        return Estimate(requests=self.n_items * self.built.epochs)

    def checks(self) -> Iterator[Check]:
        """The task (built with the spec) with its version and sandbox, and warnings about keys that it may need."""
        built, name = self.built, f"inspect {self.built.name}"
        sandboxes = f", sandbox {self.config.sandbox or ', '.join(sorted(built.sandboxes)) or 'none'}"
        words = f"{built.n_items} samples, {built.epochs} epoch(s), version {built.task.version}{sandboxes}"
        yield Check(name=name, ok=True, words=words)
        if built.card is not None:
            yield from warnings_of(self.config, built.card, name)

    def measure(self, subject: Subject, progress: Progress, scratch: Path) -> Outcome:
        """Run every sample that is not complete in `scratch` yet. Raises HarnessError."""
        where = subject.endpoint()
        n_parallel = self.config.max_concurrency or min(self.serve.parallel, where.parallel)
        ran = run(self.config, self.built, subject.endpoint, scratch, progress, n_parallel=n_parallel)
        found = report(self.config, self.built, ran, metric=self.metric)
        logs = sorted(str(path.relative_to(scratch)) for path in (scratch / LOGS).glob("*.eval"))
        return Outcome(
            measurement=found.measurement,
            engine=Engine(name=where.engine, dtype=where.dtype, device=where.device, served=where.how, note=where.note),
            items=found.items,
            files=logs,
            n_open=found.n_open,
        )


def _again(config: InspectConfig, serve: ServeSettings) -> InspectComponent:
    built = build(config)
    refuse_sandboxes(config, built.sandboxes, built.card)
    check_providers(config)
    refuse_unnamed(config, built)
    return InspectComponent(config, built, serve)
