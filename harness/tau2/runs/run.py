"""Runs a plan: every simulation of every trial that is not finished yet, several at a time, each stored as soon as it ended.

Owns concurrency, failures and verdicts. Models, folder and observer are arguments. It may be stopped at any moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from harness.core.chat import ChatModel, EndpointError, Usage
from harness.core.errors import HarnessError
from harness.core.tau2.fault import Fault
from harness.core.tau2.message import Requestor
from harness.core.tau2.simulation import Termination
from harness.core.tau2.task import Task
from harness.reward_models.tau2.result import Key, Result
from harness.reward_models.tau2.reward import NEEDS_JUDGE, unjudged
from harness.tasks.tau2.domain import kinds
from harness.tau2.judging.judge import Judging
from harness.tau2.line import INFRASTRUCTURE, Done, as_line, read_played
from harness.tau2.plan import Job, Plan
from harness.tau2.runs.folder import RunFolder
from harness.tau2.runs.observer import RunObserver
from harness.tau2.simulate.greeting import refuse_greeting
from harness.tau2.simulate.loop import Setting, Simulator

EXCLUDED_AFTER = 4
"""Attempts at a simulation before `--upstream-exclusions` leaves it out: upstream makes three retries."""
FAULTS: tuple[Termination, ...] = ("agent_error", "user_error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The models of a run. `user` is None in a solo run, `judge` where natural-language assertions are not judged.

    `reviewer` looks for the errors in simulations that failed; None: the cause is found by rules alone.
    """

    agent: ChatModel
    user: ChatModel | None
    judge: ChatModel | None = None
    reviewer: ChatModel | None = None

    async def close(self) -> None:
        """Close each once, even if one model has several roles."""
        parts = (self.agent, self.user, self.judge, self.reviewer)
        for model in {id(model): model for model in parts if model}.values():
            await model.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """A run's results in the plan's order, earlier ones included. `gave_up`: why it stopped before it had tried everything."""

    results: tuple[Result, ...]
    n_new: int
    n_untried: int
    gave_up: str | None = None


class Runner:
    """One run in one process. Use `run`."""

    def __init__(
        self,
        plan: Plan,
        models: Models,
        folder: RunFolder,
        observer: RunObserver,
        *,
        max_concurrency: int,
    ) -> None:
        self._plan = plan
        self._models = models
        self._folder = folder
        self._observer = observer
        self._max_concurrency = max_concurrency
        self._judging = Judging(plan, judge=models.judge, reviewer=models.reviewer, asked=observer.asked)
        self._kinds = kinds(plan.domain)
        self._fresh: dict[Key, Result] = {}
        self._failed_in_a_row = 0
        self._gave_up: str | None = None
        self._setting = Setting(
            environment=lambda: plan.domain.environment(solo=plan.solo),
            prompts=plan.prompts,
            agent_tools=plan.agent_tools,
            user_tools=plan.user_tools,
            agent=models.agent,
            user=models.user,
            limits=plan.limits,
            solo=plan.solo,
            greeting=plan.greeting,
            upstream=plan.upstream,
            asked=observer.asked,
        )

    async def run(self) -> RunReport:
        """Run what is left; cancellation leaves a consistent folder. Raises StateError when a line cannot be written."""
        prompts = self._plan.prompts
        self._folder.keep_prompts(
            {
                "policy": prompts.policy,
                "guidelines": prompts.guidelines,
                "agent_instructions": prompts.agent_instructions,
            }
        )
        jobs = self._plan.jobs()
        known = self._folder.results
        pending = [job for job in jobs if _key(job) not in known]
        transcripts = self._folder.transcripts() if pending else {}
        before = [known[_key(job)] for job in jobs if _key(job) in known]
        self._observer.starting(total=len(jobs), known=before, concurrency=self._max_concurrency)
        rest = iter(pending)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._max_concurrency, len(pending))):
                    group.create_task(self._work(rest, transcripts))
        except BaseExceptionGroup as errors:
            raise _first(errors) from errors
        found = {**known, **self._fresh}
        results = tuple(found[_key(job)] for job in jobs if _key(job) in found)
        return RunReport(
            results=results,
            n_new=sum(result.finished for result in self._fresh.values()),
            n_untried=len(jobs) - len(results),
            gave_up=self._gave_up,
        )

    async def _work(self, jobs: Iterator[Job], transcripts: Mapping[Key, dict[str, Any]]) -> None:
        for job in jobs:
            if self._gave_up:
                return
            self._observer.began()
            heard = transcripts.get(_key(job))
            done = await self._contained(job, heard)
            await self._keep(job, done, heard)

    async def _keep(self, job: Job, done: Done, heard: Mapping[str, Any] | None) -> None:
        """Store a simulation, unless it is an unfinished one that was stored before and nothing was added."""
        if done.result.finished or heard is None:
            line = as_line(
                done,
                task=job.task,
                domain=self._plan.domain.name,
                source=self._plan.domain.source,
                solo=self._plan.solo,
                kinds=self._kinds,
                run_info=self._folder.info,
                any_number=self._plan.upstream.numbers,
            )
            await self._folder.append(done.result, line)
        self._fresh[done.key] = done.result
        self._observer.ended(done.result)
        self._count(done.result)

    async def _contained(self, job: Job, heard: Mapping[str, Any] | None) -> Done:
        """Run one job; an unexpected exception becomes its own failed result and does not cancel the others.

        Raises HarnessError.
        """
        try:
            return await self._job(job, heard)
        except HarnessError:
            raise
        except Exception as error:  # noqa: BLE001
            started = datetime.now(UTC).isoformat(timespec="milliseconds")
            return self._without_end(job, f"unexpected: {type(error).__name__}: {error}", started, {})

    def _count(self, result: Result) -> None:
        """Stop the run after many infrastructure failures in a row: the endpoint is gone for good."""
        if result.termination != INFRASTRUCTURE or result.excluded:
            self._failed_in_a_row = 0
            return
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= max(8, self._max_concurrency):
            self._gave_up = f"the last {self._failed_in_a_row} simulations got no answer ({result.reason})"

    async def _job(self, job: Job, line: Mapping[str, Any] | None) -> Done:
        started = datetime.now(UTC).isoformat(timespec="milliseconds")
        played = None if line is None else read_played(line)
        excluded: str | None = None
        spent: dict[Requestor, Usage] = {}
        attempts = EXCLUDED_AFTER if self._plan.upstream.exclusions else 1
        for _ in range(attempts if played is None else 0):
            setting = self._setting_of(job.task)
            simulator = Simulator(setting, job.task, seed=job.seed, tag=job.task.id)
            try:
                played = await simulator.run()
            except EndpointError as error:
                if self._plan.greeting == "send" and simulator.agent_is_first_asked:
                    refuse_greeting(str(error))
                return self._without_end(job, str(error), started, _plus(spent, simulator.spent))
            spent = _plus(spent, played.spent)
            if not (self._plan.upstream.exclusions and played.termination in FAULTS):
                excluded = None
                break
            excluded = f"{played.termination}: {played.reason}"
        assert played is not None
        if excluded is not None:
            return self._without_end(job, excluded, started, spent, excluded=True)
        return await self._judging.done(_key(job), job.task, replace(played, spent={**played.spent, **spent}), started)

    def _setting_of(self, task: Task) -> Setting:
        """The run's setting with the task's environment and user tools."""
        plan = self._plan
        return replace(
            self._setting,
            environment=lambda: plan.domain.environment(solo=plan.solo, task=task),
            user_tools=plan.tools_of_user(task),
        )

    def _without_end(
        self, job: Job, reason: str, started: str, spent: Mapping[Requestor, Usage], *, excluded: bool = False
    ) -> Done:
        result = Result(
            key=_key(job),
            termination=INFRASTRUCTURE,
            reason=reason,
            verdict=unjudged(reason),
            agent=spent.get("assistant", Usage()),
            user=spent.get("user", Usage()),
            excluded=excluded,
            fault=None if excluded else Fault(cause="infrastructure", rule="endpoint", words=reason),
        )
        return Done(key=result.key, result=result, played=None, started=started)


def _key(job: Job) -> Key:
    return Key(task_id=job.task.id, trial=job.trial, seed=job.seed)


def _plus(one: Mapping[Requestor, Usage], other: Mapping[Requestor, Usage]) -> dict[Requestor, Usage]:
    total = dict(one)
    for side, usage in other.items():
        total[side] = total.get(side, Usage()) + usage
    return total


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error in a group, which may be nested."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def run(
    plan: Plan,
    models: Models,
    folder: RunFolder,
    *,
    observer: RunObserver | None = None,
    max_concurrency: int = 64,
) -> RunReport:
    """Run what is not finished; the models are closed at the end. Raises SpecError where a required judge is missing."""
    runner = Runner(
        plan,
        models,
        folder,
        observer or RunObserver(),
        max_concurrency=max_concurrency,
    )
    try:
        plan.check_judge(there=models.judge is not None)
        return await runner.run()
    finally:
        await models.close()


def needs_judge(result: Result) -> bool:
    """Whether only a judge is missing."""
    return result.verdict.reason == NEEDS_JUDGE
