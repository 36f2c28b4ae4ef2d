"""Reference play through the whole loop, by scripted models, is worth 1.0: in process and over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from tau2_online import http_chat, plan, run_plan
from tau2_samples import needs_port, shared

from harness.engines.scripted.chat import ScriptedChat
from harness.engines.scripted.server import ScriptedServer, serving
from harness.tasks.tau2.sources import open_domain
from harness.tau2.simulate.reference_play import ReferencePlay

pytestmark = needs_port
UNWINNABLE = {"update_task_with_history_and_env_assertions", "update_task_with_user_tools"}


class PassJudge(ScriptedChat):
    """A judge to whom everything is met."""

    def __init__(self) -> None:
        super().__init__(self._met, name="everything is met")

    @staticmethod
    def _met(request: object) -> str:
        import json

        asked = json.loads(request.messages[1]["content"])["expectedOutcomes"]  # type: ignore[attr-defined]
        return json.dumps({"results": [{"expectedOutcome": one, "metExpectation": True} for one in asked]})


def every(domain: str, *, solo: bool = False, step: int = 1) -> list[str]:
    tasks = open_domain(domain).tasks("base")
    return [task.id for task in tasks if not solo or task.ticket is not None][::step]


@pytest.mark.parametrize(
    ("domain", "solo", "step"),
    [("airline", False, 2), ("retail", False, 4), ("telecom", False, 4), ("mock", False, 1), ("telecom", True, 4)],
)
def test_in_process(tmp_path: Path, domain: str, solo: bool, step: int) -> None:
    made = plan(domain, *every(domain, solo=solo, step=step), solo=solo)
    model = ScriptedChat(ReferencePlay(made.tasks))
    report = run_plan(made, tmp_path, model, judge=PassJudge())
    assert len(report.results) == len(made.tasks) and report.n_untried == 0
    rewards = {outcome.key.task_id: outcome.verdict.reward for outcome in report.results}
    assert {task for task, reward in rewards.items() if reward != 1.0} == UNWINNABLE & rewards.keys()
    assert {outcome.termination for outcome in report.results} == {"agent_stop" if solo else "user_stop"}


@pytest.mark.parametrize("domain", ["airline", "retail", "mock"])
def test_of_upstreams_newer_tasks(tmp_path: Path, domain: str) -> None:
    data = shared("tau2_tasks")
    made = plan(domain, data=data, num_tasks=20)
    report = run_plan(made, tmp_path, ScriptedChat(ReferencePlay(made.tasks)), judge=PassJudge())
    rewards = {outcome.key.task_id: outcome.verdict.reward for outcome in report.results}
    assert {task for task, reward in rewards.items() if reward != 1.0} == UNWINNABLE & rewards.keys()


@pytest.mark.parametrize(("domain", "step"), [("airline", 5), ("retail", 12), ("telecom", 1), ("mock", 1)])
def test_over_http(tmp_path: Path, domain: str, step: int) -> None:
    tasks = ReferencePlay(open_domain(domain).tasks("base")).recognisable()[::step]
    made = plan(domain, *[task.id for task in tasks])
    with serving(ScriptedServer(ReferencePlay(made.tasks), latency_s=0.01)) as server:
        report = run_plan(made, tmp_path, http_chat(server.url), max_concurrency=16)
        assert 1 < server.in_flight_most <= 16
    rewards = {outcome.key.task_id: outcome.verdict.reward for outcome in report.results}
    assert set(rewards.values()) == {1.0} and len(rewards) == len(tasks) > 3
    assert all(outcome.agent.prompt_tokens > 0 for outcome in report.results)
