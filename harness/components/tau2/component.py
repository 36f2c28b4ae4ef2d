"""kind: tau2. A domain's mean reward: the checkpoint, served, works on the domain's tasks with a simulated user."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from harness.components.tau2.config import Tau2Config
from harness.components.tau2.open_models import open_model
from harness.core.chat import ChatModel, ChatRequest, ContextOverflow, EndpointError
from harness.core.chat_config import ChatConfig
from harness.core.component import BaseComponent, Check, Engine, Estimate, Outcome, Progress, Subject
from harness.core.defaults import Defaults
from harness.core.endpoint import Endpoint
from harness.core.errors import SpecError
from harness.core.serving import ServeSettings
from harness.core.tau2.task import REWARD_TYPES
from harness.reward_models.tau2.measure import METRIC, measure_reward
from harness.reward_models.tau2.result import Result
from harness.tasks.tau2.task_file import revision
from harness.tau2.plan import Plan, make_plan
from harness.tau2.runs.folder import SIMULATIONS, RunFolder, open_run_folder
from harness.tau2.runs.observer import RunObserver
from harness.tau2.runs.run import Models, RunReport, run
from harness.tau2.settings import CHECKPOINT


class Tau2Component(BaseComponent):
    """A domain, ready to be run with any checkpoint as its agent. Tasks, prompts and initial states are checked once."""

    Config = Tau2Config
    metric = METRIC
    rank = 2
    chats = True
    calls_tools = True
    served = True

    def __init__(self, config: Tau2Config, plan: Plan, serve: ServeSettings) -> None:
        self.config = config
        self.plan = plan
        self.serve = serve
        self.concurrency = config.max_concurrency or serve.parallel
        self.n_items = len(plan.jobs())
        self.definition: dict[str, JsonValue] = {
            "metric": METRIC,
            **plan.identity(),
            "trials": config.trials,
            "agent": dict(config.agent.args),
            "user": None,
            "nl_judge": None,
            "reviewer": None,
            **{part: chat.identity() for part, chat in config.others().items()},
            "serve": serve.meaning(),
        }
        self.task: dict[str, JsonValue] = {
            "domain": plan.domain.name,
            "source": plan.domain.source,
            "revision": revision(plan.tasks),
            "n_tasks": len(plan.tasks),
            "user": config.user.model if config.user else None,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its configuration and loaded anew: a domain's tools are bound functions, which cannot be pickled."""
        return _again, (self.config, self.serve)

    @staticmethod
    def resolve(config: Tau2Config, folder: Path) -> Tau2Config:
        """Paths relative to the spec's folder become paths relative to here."""
        return config.model_copy(
            update={
                "tasks_file": config.tasks_file and str(folder / config.tasks_file),
                "data": config.data and str(folder / config.data),
            }
        )

    @classmethod
    def load(cls, config: Tau2Config, defaults: Defaults) -> Tau2Component:
        """Read and check domain and tasks. Raises SpecError or DataError."""
        plan = make_plan(config)
        plan.check_judge(there=config.nl_judge is not None)
        component = cls(config, plan, defaults.serve)
        for chat in config.others().values():
            if chat.model != CHECKPOINT:
                component.open_model(chat)  # a missing name, address or key is reported now
        return component

    def open_model(self, chat: ChatConfig, *, attempts: int | None = None) -> ChatModel:
        """A participant's model at its own endpoint; no request is sent yet. Raises SpecError."""
        try:
            return open_model(chat, self.config, attempts=attempts)
        except SpecError as error:
            raise SpecError(f"{self.config.name}: {error}") from error

    def estimate(self, subject: Subject) -> Estimate:
        """A request per simulation, whose number of turns is not known."""
        return Estimate(requests=self.n_items)

    def checks(self) -> Iterator[Check]:
        """The tasks (checked with the spec), whether a judge is missing, and whether each participant's endpoint answers."""
        plan = self.plan
        yield Check(
            name=f"tau2 {plan.domain.name}",
            ok=True,
            words=f"{len(plan.tasks)} tasks of {plan.domain.source}, {self.config.trials} trial(s) each",
        )
        if plan.n_judged_by_model and self.config.nl_judge is None:
            yield Check(
                name=f"tau2 {plan.domain.name} judge",
                ok=None,
                words=f"{plan.n_judged_by_model} task(s) are gated by natural-language assertions and stay without a "
                "reward; name a model with nl_judge",
            )
        for part, chat in self.config.others().items():
            if chat.model != CHECKPOINT:
                yield asyncio.run(_reach(self.open_model(chat, attempts=1), f"tau2 {plan.domain.name} {part}"))

    def measure(self, subject: Subject, progress: Progress, scratch: Path) -> Outcome:
        """Run every simulation that is not in `scratch` yet. Raises HarnessError."""
        where = subject.endpoint()
        with open_run_folder(scratch, identity={**self.plan.identity(), **self.config.identity()}) as folder:
            report = asyncio.run(self._run(subject.endpoint, folder, progress))
        measurement = measure_reward(
            report.results,
            task_ids=[task.id for task in self.plan.tasks],
            trials=self.config.trials,
            source=self.plan.domain.source,
            task_revision=revision(self.plan.tasks),
        )
        if report.gave_up:
            measurement = measurement.model_copy(
                update={"reason": f"{measurement.reason}; stopped early: {report.gave_up}"}
            )
        return Outcome(
            measurement=measurement,
            engine=Engine(name=where.engine, dtype=where.dtype, device=where.device, served=where.how, note=where.note),
            items=_items(report.results),
            files=(SIMULATIONS,) if (scratch / SIMULATIONS).exists() else (),
            n_open=report.n_untried + sum(one.open for one in report.results),
        )

    async def _run(self, endpoint: Callable[[], Endpoint], folder: RunFolder, progress: Progress) -> RunReport:
        from harness.engines.chat.retry import OF_OUR_SERVER, RetryingChat
        from harness.engines.chat.served import ServedChat

        def served(arguments: Mapping[str, Any]) -> ChatModel:
            chat = ServedChat(endpoint, name=CHECKPOINT, arguments=arguments, timeout_s=self.config.request_timeout_s)
            return RetryingChat(chat, OF_OUR_SERVER)

        def opened(chat: ChatConfig | None) -> ChatModel | None:
            if chat is None:
                return None
            return served(chat.args) if chat.model == CHECKPOINT else self.open_model(chat)

        models = Models(
            agent=served(self.config.agent.args),
            user=opened(self.config.user),
            judge=opened(self.config.nl_judge),
            reviewer=opened(self.config.reviewer),
        )
        return await run(self.plan, models, folder, observer=_Told(progress), max_concurrency=self.concurrency)


def _again(config: Tau2Config, serve: ServeSettings) -> Tau2Component:
    return Tau2Component(config, make_plan(config), serve)


class _Told(RunObserver):
    """Passes the events of a run on to a component's Progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def starting(self, *, total: int, known: list[Result], concurrency: int) -> None:
        self._progress.advance(items=len(known), tokens=0)

    def ended(self, result: Result) -> None:
        self._progress.advance(items=1, tokens=result.agent.prompt_tokens + result.agent.completion_tokens)


async def _reach(model: ChatModel, name: str) -> Check:
    """Ask a model for one word, with a timeout short enough for a diagnosis."""
    try:
        async with asyncio.timeout(20):
            await model.answer(ChatRequest(messages=[{"role": "user", "content": "Say yes."}]))
        return Check(name=name, ok=True, words=f"{model.name} answers")
    except (EndpointError, ContextOverflow, TimeoutError) as error:
        return Check(name=name, ok=False, words=f"{model.name} does not answer: {error or 'nothing within 20 s'}")
    finally:
        await model.close()


def _items(results: Sequence[Result]) -> dict[str, list[Any]]:
    """One row per simulation, the first trial of all tasks first; what is not known is None."""
    rows: list[dict[str, Any]] = []
    for one in results:
        verdict = one.counted
        status = "ok" if verdict.reward is not None else "failed" if one.open else "open"
        rows.append(
            {
                "id": f"{one.key.task_id}-{one.key.trial}",
                "status": "excluded" if one.excluded else status,
                "task_id": one.key.task_id,
                "trial": one.key.trial,
                "seed": one.key.seed,
                "reward": verdict.reward,
                **{name: one.verdict.components.get(name) for name in REWARD_TYPES},
                "termination": one.termination,
                "fault": one.fault and one.fault.cause,
                "fault_rule": one.fault and one.fault.rule,
                "reason": one.reason or verdict.reason,
                "review_failure": one.review_failure,
                "n_messages": one.conversation.turns,
                "tool_errors": one.conversation.tool_errors,
                "agent_tokens": one.agent.prompt_tokens + one.agent.completion_tokens,
                "seconds": one.seconds,
            }
        )
    return {key: [row[key] for row in rows] for key in rows[0]} if rows else {}
