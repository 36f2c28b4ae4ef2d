"""Runs with scripted models, for the tests of the online loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.core.chat import ChatModel, ChatRequest
from harness.core.tau2.task import Task
from harness.core.tau2.upstream import OURS
from harness.engines.chat.open import ChatSettings, open_chat
from harness.engines.chat.retry import Backoff
from harness.engines.scripted.chat import Reply, ScriptedChat
from harness.tasks.tau2.sources import open_domain
from harness.tau2.plan import Plan, make_plan
from harness.tau2.runs.folder import open_run_folder
from harness.tau2.runs.run import Models, RunReport, run
from harness.tau2.settings import settings_of
from harness.tau2.simulate.loop import Limits, Played, Setting, Simulator
from harness.tau2.simulate.prompts import Prompts

Script = Sequence[Reply] | Callable[[ChatRequest], Reply]
QUICK = Backoff(attempts=2, first_s=0.01)


def mock_task(task_id: str = "create_task_1") -> Task:
    """A task of the mock domain."""
    return next(task for task in open_domain("mock").tasks() if task.id == task_id)


def plan(domain: str = "mock", *ids: str, **settings: Any) -> Plan:
    """A plan over some tasks of a domain, all of its base split where none is named."""
    upstream = settings.pop("upstream", OURS)
    paths = {key: str(settings.pop(key)) for key in ("data", "tasks_file") if key in settings}
    return make_plan(
        settings_of({"domain": domain, "task_ids": list(ids), "upstream": upstream.names(), **paths, **settings})
    )


def simulate(
    agent: Script,
    user: Script | None = ("Hello.", "###STOP###"),
    *,
    task: Task | None = None,
    limits: Limits | None = None,
    domain: str = "mock",
    seed: int | None = None,
) -> tuple[Played, ScriptedChat, ScriptedChat]:
    """One simulation of a task (mock's first one); solo where `user` is None."""
    solo = user is None
    opened = open_domain(domain)
    agents, users = ScriptedChat(agent), ScriptedChat(user or ())
    made = plan(domain, solo=solo) if task is None else None
    setting = Setting(
        environment=lambda: opened.environment(solo=solo),
        prompts=made.prompts if made else Prompts(policy="Be kind.", guidelines="You call."),
        agent_tools=(made or plan(domain, solo=solo)).agent_tools,
        user_tools=(made or plan(domain, solo=solo)).user_tools,
        agent=agents,
        user=None if solo else users,
        limits=limits or Limits(),
        solo=solo,
    )
    return asyncio.run(Simulator(setting, task or mock_task(), seed=seed).run()), agents, users


def run_plan(made: Plan, folder: Path, agent: ChatModel, user: ChatModel | None = None, **more: Any) -> RunReport:
    """A run in a folder, with its own identity."""
    judge, reviewer = more.pop("judge", None), more.pop("reviewer", None)
    identity = {**made.identity(), "nl_judge": judge and {"model": judge.name, "args": {}}}
    with open_run_folder(folder, identity=identity) as opened:
        models = Models(agent=agent, user=None if made.solo else user or agent, judge=judge, reviewer=reviewer)
        return asyncio.run(run(made, models, opened, **more))


def http_chat(base: str, **settings: Any) -> ChatModel:
    """A model behind a scripted server, asked directly."""
    return open_chat(ChatSettings(**{"model": "hosted_vllm/scripted", "api_base": base, "backoff": QUICK, **settings}))
