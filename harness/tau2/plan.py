"""What is to be run: domain, tasks, trials, prompts and limits, all checked before any model is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.core.digest import digest_json
from harness.core.errors import DataError, SpecError
from harness.core.tau2.task import Task
from harness.core.tau2.upstream import OURS, Upstream, upstream_of
from harness.tasks.tau2.domain import Domain, schemas
from harness.tasks.tau2.guidelines import read_guidelines
from harness.tasks.tau2.sources import open_domain
from harness.tasks.tau2.task_file import revision
from harness.tau2.settings import Tau2Settings
from harness.tau2.simulate.loop import Greeting, Limits
from harness.tau2.simulate.prompts import AGENT_INSTRUCTIONS, DONE, SOLO_INSTRUCTIONS, Prompts
from harness.tau2.simulate.seeds import trial_seeds

DEFAULT_SPLIT = "base"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One simulation to be run; `trial` counts from 0."""

    task: Task
    trial: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything about a run except its models and its folder. `n_unfit`: tasks left out because they do not fit a solo run."""

    domain: Domain
    tasks: tuple[Task, ...]
    solo: bool
    seed: int
    trials: int
    limits: Limits
    prompts: Prompts
    agent_tools: tuple[dict[str, Any], ...]
    user_tools: tuple[dict[str, Any], ...]
    n_unfit: int = 0
    greeting: Greeting = "send"
    upstream: Upstream = OURS

    def jobs(self) -> list[Job]:
        """Every simulation, the first trial of all tasks first."""
        seeds = trial_seeds(self.seed, self.trials)
        return [Job(task=task, trial=trial, seed=seed) for trial, seed in enumerate(seeds) for task in self.tasks]

    @property
    def n_judged_by_model(self) -> int:
        """Number of tasks whose reward depends on natural-language assertions, which need a judge."""
        criteria = [task.evaluation_criteria for task in self.tasks]
        return sum(bool(one and one.nl_assertions and "NL_ASSERTION" in one.reward_basis) for one in criteria)

    def check_judge(self, *, there: bool) -> None:
        """Raises SpecError where `upstream` requires a judge and there is none."""
        if self.upstream.judge_required and self.n_judged_by_model and not there:
            raise SpecError(
                f"`upstream` judge-required: {self.n_judged_by_model} task(s) are gated by natural-language "
                "assertions; name a judge with `nl_judge`"
            )

    def identity(self) -> dict[str, Any]:
        """What makes two runs the same measurement, as JSON. The number of trials is not part of it: a run can grow."""
        return {
            "domain": self.domain.name,
            "source": self.domain.source,
            "tasks": revision(self.tasks),
            "n_tasks": len(self.tasks),
            "solo": self.solo,
            "seed": self.seed,
            **self.limits.identity(),
            "prompts": self.prompts.digest,
            "tools": digest_json([self.agent_tools, self.user_tools]),
            "greeting": self.greeting,
            "databases": self.domain.databases,
            "upstream": self.upstream.names(),
        }

    def tools_of_user(self, task: Task) -> tuple[dict[str, Any], ...]:
        """What the user of a task is shown: all of the user's tools, or those that the task names."""
        if task.user_tools is None:
            return self.user_tools
        return tuple(tool for tool in self.user_tools if tool["function"]["name"] in task.user_tools)


def make_plan(settings: Tau2Settings) -> Plan:
    """Open the domain, choose and check the tasks. Raises DataError or SpecError, whose messages name keys in backticks."""
    solo, upstream = settings.solo, upstream_of(settings.upstream)
    opened = open_domain(
        settings.domain,
        data=None if settings.data is None else Path(settings.data),
        tasks_file=None if settings.tasks_file is None else Path(settings.tasks_file),
        source=settings.source,
        upstream=upstream,
        retrieval=settings.retrieval,
    )
    policy = opened.policy(solo=solo)
    tasks = _select(opened, settings)
    chosen = tuple(task for task in tasks if fits_solo(task)) if solo else tasks
    if solo and settings.task_ids and len(chosen) < len(tasks):
        unfit = next(task.id for task in tasks if not fits_solo(task))
        raise DataError(
            f"task {unfit!r} of domain {opened.name} is not for `solo`: it has no ticket, nothing to do, "
            "or begins with a conversation"
        )
    if not chosen:
        raise DataError(f"no task of domain {opened.name} is left to run; choose others")
    opened.check(chosen)
    for task in chosen:
        _check_start(opened, task, solo=solo)
    limits = settings.limits()
    agent_tools, user_tools = schemas(opened.tools), schemas(opened.user_tools)
    return Plan(
        domain=opened,
        tasks=chosen,
        solo=solo,
        seed=settings.seed,
        trials=settings.trials,
        limits=replace(limits, answer=limits.answer.as_upstream(upstream)),
        greeting=settings.greeting,
        upstream=upstream,
        prompts=Prompts(
            policy=policy,
            guidelines=read_guidelines(opened.data, tools=bool(opened.user_tools)),
            agent_instructions=settings.agent.instructions or _instructions(upstream, solo=solo),
            toolless=read_guidelines(opened.data, tools=False)
            if opened.user_tools and any(task.user_tools == () for task in chosen)
            else None,
        ),
        agent_tools=tuple([*agent_tools, *user_tools, DONE] if solo else agent_tools),
        user_tools=() if solo else tuple(user_tools),
        n_unfit=len(tasks) - len(chosen),
    )


def _instructions(upstream: Upstream, *, solo: bool) -> str:
    """Ours, or upstream's from its package. Raises SpecError where that is not installed."""
    if not upstream.instructions:
        return SOLO_INSTRUCTIONS if solo else AGENT_INSTRUCTIONS
    from harness.tasks.tau2.upstream import agent_instructions

    try:
        return agent_instructions(solo=solo)
    except DataError as error:
        raise SpecError(
            f"`upstream` instructions: {error}; or give the text with `agent.instructions`, "
            "or name the other switches one by one"
        ) from error


def fits_solo(task: Task) -> bool:
    """Whether an agent can do the task without a user: upstream's rule, and it must have a ticket."""
    if task.ticket is None:
        return False
    if task.initial_state is not None:
        history = task.initial_state.message_history or ()
        return all(message.role == "tool" or (message.role != "user" and message.tool_calls) for message in history)
    return bool(task.evaluation_criteria and task.evaluation_criteria.actions)


def _select(domain: Domain, settings: Tau2Settings) -> tuple[Task, ...]:
    """Without a split: the tasks of the task file where there is one, else of the split `base`."""
    split = settings.split
    if split is None and settings.tasks_file is None and not settings.task_ids:
        split = DEFAULT_SPLIT
    tasks: Sequence[Task] = domain.tasks(split)
    if settings.task_ids:
        known = {task.id: task for task in tasks}
        for name in settings.task_ids:
            if name not in known:
                where = f"split {split} of domain {domain.name}" if split else settings.tasks_file
                raise DataError(f"unknown task {name!r}; {where or f'domain {domain.name}'} has {_some(list(known))}")
        tasks = [known[name] for name in dict.fromkeys(settings.task_ids)]
    return tuple(tasks[: settings.num_tasks])


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown or "none"


def _check_start(domain: Domain, task: Task, *, solo: bool) -> None:
    """Raises DataError if a task's initial state cannot be made."""
    environment = domain.environment(solo=solo, task=task)
    try:
        environment.initialize(task.initial_state)
        environment.replay((task.initial_state and task.initial_state.message_history) or ())
    except Exception as error:
        # Initialisation calls functions of the environment, which may raise anything.
        raise DataError(
            f"task {task.id!r} of domain {domain.name}: its initial state cannot be made "
            f"({type(error).__name__}: {error}); correct the task file"
        ) from error
