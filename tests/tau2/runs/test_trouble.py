"""Whatever an endpoint or the model behind it does costs at most the simulation it does it to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tau2_online import http_chat, plan, run_plan
from tau2_samples import needs_port

from harness.core.chat import ChatAnswer, ChatRequest, EndpointError
from harness.core.tau2.upstream import Upstream
from harness.engines.scripted.chat import ScriptedChat
from harness.engines.scripted.server import ScriptedServer, serving
from harness.engines.scripted.trouble import TROUBLES, Trouble
from harness.tasks.tau2.recording import read_recording
from harness.tasks.tau2.sources import open_domain
from harness.tau2.plan import Plan
from harness.tau2.runs.run import RunReport
from harness.tau2.simulate.reference_play import ReferencePlay

pytestmark = needs_port
VICTIM = "7"
INFRASTRUCTURE = {
    "500", "429", "401", "truncated", "lost", "html", "sse", "error in 200", "deep body", "hang",
}  # fmt: skip
"""Nobody's fault: without a reward, and run again on resume. All else is the model's, and worth 0."""
ERRORS_OF_TOOLS = {"bomb", "wrong types"}


def airline() -> Plan:
    return plan("airline", *[task.id for task in open_domain("airline").tasks("base")][:10])


def of_victim(_: int, request: ChatRequest) -> bool:
    """Requests of the agent in one task's conversations."""
    return any(
        str(message.get("content", "")).endswith(f"(task: {VICTIM})") and message["role"] == "user"
        for message in request.messages
    )


def rewards(report: RunReport) -> dict[str, float | None]:
    return {outcome.key.task_id: outcome.verdict.reward for outcome in report.results}


@pytest.mark.parametrize("kind", TROUBLES)
def test_it_costs_one_simulation(tmp_path: Path, kind: str) -> None:
    made = airline()
    asked: list[ChatRequest] = []
    troubles = [Trouble(kind=kind, when=lambda n, request: of_victim(n, request) and asked.append(request) is None)]
    with serving(ScriptedServer(ReferencePlay(made.tasks), troubles=troubles)) as server:
        report = run_plan(made, tmp_path, http_chat(server.url, timeout_s=0.3 if kind == "hang" else 30))
    assert len(asked) == (10 if kind in ERRORS_OF_TOOLS else 2 if kind in INFRASTRUCTURE - {"401"} else 1)
    found = {outcome.key.task_id: outcome for outcome in report.results}
    victim = found.pop(VICTIM)
    assert {outcome.verdict.reward for outcome in found.values()} == {1.0} and len(found) == 9
    if kind in INFRASTRUCTURE:
        assert victim.termination == "infrastructure_error" and victim.verdict.reward is None and victim.reason
    else:
        assert victim.verdict.reward == 0.0
        expected = "too_many_errors" if kind in ERRORS_OF_TOOLS else "user_stop" if "control" in kind else "agent_error"
        assert victim.termination == expected
    lines = (tmp_path / "simulations.jsonl").read_text(encoding="ascii").splitlines()
    assert len(lines) == 9 + (kind not in INFRASTRUCTURE)
    for line in lines:
        json.loads(line, parse_constant=pytest.fail)
    assert len(read_recording(tmp_path / "simulations.jsonl").simulations) == len(lines)


def test_trouble_now_and_then_costs_nothing(tmp_path: Path) -> None:
    made = airline()
    troubles = [
        Trouble.every(7, "500"),
        Trouble.every(5, "truncated"),
        Trouble.every(11, "429"),
        Trouble.every(13, "lost"),
    ]
    with serving(ScriptedServer(ReferencePlay(made.tasks), troubles=troubles)) as server:
        chat = http_chat(server.url, backoff=_patient())
        assert set(rewards(run_plan(made, tmp_path, chat)).values()) == {1.0}


def _patient() -> Any:
    from harness.engines.chat.retry import Backoff

    # Four requests in ten go wrong: twenty times in a row once in thirty million.
    return Backoff(attempts=20, first_s=0.01, longest_s=0.1)


def test_an_endpoint_that_dies_half_way_leaves_the_rest_for_the_next_run(tmp_path: Path) -> None:
    made = airline()
    with serving(
        ScriptedServer(ReferencePlay(made.tasks), troubles=[Trouble(kind="500", when=lambda n, _: n > 30)])
    ) as server:
        dead = run_plan(made, tmp_path, http_chat(server.url), max_concurrency=3)
    done = {key for key, reward in rewards(dead).items() if reward == 1.0}
    assert 0 < len(done) < 10 and not any(reward == 0.0 for reward in rewards(dead).values())
    with serving(ScriptedServer(ReferencePlay(made.tasks))) as server:
        again = run_plan(made, tmp_path, http_chat(server.url))
    assert again.n_new == 10 - len(done) and set(rewards(again).values()) == {1.0}
    keys = [json.loads(line)["task_id"] for line in (tmp_path / "simulations.jsonl").read_text().splitlines()]
    assert len(keys) == len(set(keys)) == 10


def test_an_endpoint_that_is_gone_is_not_tried_on_everything(tmp_path: Path) -> None:
    made = plan("airline", trials=4)
    model = ScriptedChat(lambda _: EndpointError("connection refused"))
    report = run_plan(made, tmp_path, model, max_concurrency=5)
    assert report.gave_up and "connection refused" in report.gave_up
    assert report.n_untried > 180 and len(model.requests) < 20


def test_upstreams_exclusions_are_counted_and_cost_four_attempts(tmp_path: Path) -> None:
    made = airline()
    play = ReferencePlay(made.tasks)

    def script(request: ChatRequest) -> ChatAnswer:
        return ChatAnswer(content="") if of_victim(0, request) else play(request)

    ours = run_plan(made, tmp_path / "ours", ScriptedChat(script))
    assert rewards(ours)[VICTIM] == 0.0
    model = ScriptedChat(script)
    theirs = run_plan(replace(made, upstream=Upstream(exclusions=True)), tmp_path / "theirs", model)
    victim = next(outcome for outcome in theirs.results if outcome.key.task_id == VICTIM)
    assert victim.excluded and victim.verdict.reward is None and victim.termination == "infrastructure_error"
    assert "agent_error: an empty message" in (victim.reason or "")
    assert sum(of_victim(0, request) for request in model.requests) == 4


def test_a_defect_in_one_simulation_costs_no_other(tmp_path: Path) -> None:
    made = airline()
    play = ReferencePlay(made.tasks)

    def script(request: ChatRequest) -> ChatAnswer:
        if of_victim(0, request):
            raise ZeroDivisionError("a defect")
        return play(request)

    found = {outcome.key.task_id: outcome for outcome in run_plan(made, tmp_path, ScriptedChat(script)).results}
    assert found.pop(VICTIM).reason == "unexpected: ZeroDivisionError: a defect"
    assert {outcome.verdict.reward for outcome in found.values()} == {1.0}
