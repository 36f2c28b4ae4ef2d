"""A reviewer in runs and in rescoring: asked about failures only, believed where the rules are silent, never in the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tau2_online import plan, run_plan
from tau2_samples import needs_port

from harness.cli import run as harness
from harness.core.chat import ChatAnswer, ChatRequest, EndpointError, Usage
from harness.engines.scripted.chat import ScriptedChat
from harness.engines.scripted.server import ScriptedServer, serving
from harness.tau2.recordings.rescore import NlJudge, Rescored, prepare, rescore
from harness.tau2.runs.run import RunReport
from harness.tau2.simulate.reference_play import ReferencePlay

pytestmark = needs_port
USER_TURN, AGENT_TURN = 1, 2


def lazy(request: ChatRequest) -> ChatAnswer:
    """A user who asks and believes, and an agent that says it is done and does nothing."""
    if "<scenario>" in str(request.messages[0]["content"]):
        return ChatAnswer(content="###STOP###" if "Sure" in json.dumps(request.messages[1:]) else "Please.")
    return ChatAnswer(content="Sure, it is done.")


def answer(**changes: Any) -> str:
    error = {
        "source": "user",
        "error_tags": ["premature_termination"],
        "severity": "critical_hindered",
        "turn_idx": USER_TURN,
        "reasoning": "It asked for nothing.",
    }
    return json.dumps({"errors": [{**error, **changes}], "summary": "s"})


def costly(text: str) -> ChatAnswer:
    return ChatAnswer(content=text, usage=Usage(prompt_tokens=100, completion_tokens=7, cost=0.25))


def reviewed_run(folder: Path, *replies: Any) -> tuple[RunReport, ScriptedChat]:
    made = plan("mock", "create_task_1")
    reviewer = ScriptedChat(list(replies), name="critic")
    return run_plan(made, folder, ScriptedChat(lazy), reviewer=reviewer), reviewer


def line(folder: Path) -> dict[str, Any]:
    (text,) = (folder / "simulations.jsonl").read_text(encoding="utf-8").splitlines()
    found: dict[str, Any] = json.loads(text)
    return found


def again(folder: Path) -> Rescored:
    opened = prepare(folder / "simulations.jsonl", domain=None, data=None, tasks_file=None)
    return next(rescore(opened, nl_judge=NlJudge.NONE))


def test_what_the_reviewer_found_is_in_the_line_and_replaces_the_default(tmp_path: Path) -> None:
    report, reviewer = reviewed_run(tmp_path, costly("hm"), costly(answer()))
    (outcome,) = report.results
    assert outcome.verdict.reward == 0.0 and outcome.finished, "a reviewer does not touch the reward"
    assert outcome.fault is not None and (outcome.fault.cause, outcome.fault.rule) == ("user", "reviewer")
    kept = line(tmp_path)
    (error,) = kept["review"]["errors"]
    assert error["error_tags"] == ["premature_termination"] and error["severity"] == "critical_hindered"
    assert kept["review"]["model"] == "critic" and kept["review"]["critical_user_error"] is True
    assert kept["fault"] == outcome.fault.as_json()
    both = {"prompt_tokens": 200, "completion_tokens": 14, "cost": 0.5}
    assert kept["usage"]["reviewer"] == both and kept["review"]["cost"] == 0.5, "both attempts are paid for"
    assert "no JSON object" in str(reviewer.requests[1].messages[-1]["content"])
    assert again(tmp_path).fault == outcome.fault, "rescoring reads the review that is there"


def test_the_agents_error_is_named_by_the_reviewer_too(tmp_path: Path) -> None:
    found = answer(source="agent", severity="critical", turn_idx=AGENT_TURN, error_tags=["hallucination"])
    (outcome,) = reviewed_run(tmp_path, found)[0].results
    assert outcome.fault is not None and (outcome.fault.cause, outcome.fault.turn) == ("agent", AGENT_TURN)


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        (["hm"] * 3, "no JSON object"),
        ([answer(severity="fatal")] * 3, "'fatal' is none of"),
        ([EndpointError("gone")], "no answer (gone)"),
    ],
)
def test_a_reviewer_that_failed_is_said_and_changes_nothing(tmp_path: Path, replies: list[Any], reason: str) -> None:
    (outcome,) = reviewed_run(tmp_path, *replies)[0].results
    assert outcome.verdict.reward == 0.0 and outcome.finished
    assert outcome.fault is not None and (outcome.fault.cause, outcome.fault.rule) == ("agent", "wrong_end_state")
    kept = line(tmp_path)
    assert "review" not in kept and reason in kept["review_failure"]["reason"]
    assert reason in (outcome.review_failure or "")


def test_a_success_is_not_reviewed(tmp_path: Path) -> None:
    made = plan("mock", "create_task_1")
    reviewer = ScriptedChat([], name="critic")
    (outcome,) = run_plan(made, tmp_path, ScriptedChat(ReferencePlay(made.tasks)), reviewer=reviewer).results
    assert outcome.verdict.reward == 1.0 and outcome.fault is None and not reviewer.requests


def test_what_is_finished_is_not_reviewed_again(tmp_path: Path) -> None:
    _, first = reviewed_run(tmp_path, answer())
    report, second = reviewed_run(tmp_path)
    assert len(first.requests) == 1 and not second.requests and report.n_new == 0
    assert report.results[0].fault is not None and report.results[0].fault.rule == "reviewer"


def stops_at_once(request: ChatRequest) -> ChatAnswer:
    return ChatAnswer(content="###STOP###")


def test_rules_come_first(tmp_path: Path) -> None:
    made = plan("mock", "create_task_1")
    blame = answer(source="agent", severity="critical", turn_idx=0)
    (outcome,) = run_plan(made, tmp_path, ScriptedChat(stops_at_once), reviewer=ScriptedChat([blame])).results
    assert outcome.fault is not None and outcome.fault.rule == "stop_before_agent"
    assert line(tmp_path)["review"]["agent_error"] is True, "it is kept all the same"


def test_from_the_command_line_in_a_run_and_in_rescore(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def script(request: ChatRequest) -> ChatAnswer:
        if str(request.messages[0]["content"]).startswith("You review"):
            return ChatAnswer(content=answer(), usage=Usage(prompt_tokens=9, completion_tokens=1))
        return lazy(request)

    with serving(ScriptedServer(script)) as server:
        run = ["tau2", "run", "-d", "mock", "--task-ids", "create_task_1", "--agent-llm", "hosted_vllm/a", "--quiet"]
        run += ["--agent-api-base", server.url, "--user-llm", "hosted_vllm/u", "--user-api-base", server.url]
        critic = ["--reviewer", "hosted_vllm/r", "--reviewer-api-base", server.url]
        assert harness([*run, "--out", str(tmp_path / "with"), *critic]) == 0
        printed = capsys.readouterr().out
        assert "at fault: agent 0, user 1, judge 0, infrastructure 0" in printed and "reviewer" in printed
        assert harness([*run, "--out", str(tmp_path / "without")]) == 0
        assert "agent 1, user 0" in capsys.readouterr().out
        asked = server.requests
        assert harness([*run, "--out", str(tmp_path / "without"), *critic]) == 0, "a reviewer may be named later"
        assert server.requests == asked, "for what is not finished yet"
        capsys.readouterr()
        recorded = str(tmp_path / "without" / "simulations.jsonl")
        assert harness(["tau2", "rescore", recorded, "--out", str(tmp_path / "l.jsonl"), *critic]) == 0
        assert "at fault: agent 0, user 1" in capsys.readouterr().out
    (kept,) = map(json.loads, (tmp_path / "l.jsonl").read_text().splitlines())
    assert kept["fault"]["rule"] == "reviewer" and kept["review"]["errors"][0]["turn_idx"] == USER_TURN
