"""Chat templates that insist on a user's message first: what is said when one refuses, and how it can be run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tau2_online import plan, run_plan
from tau2_samples import needs_port

from harness.cli import run as harness
from harness.core.chat import ChatAnswer, ChatRequest, EndpointError
from harness.core.errors import SpecError
from harness.engines.scripted.chat import ScriptedChat
from harness.engines.scripted.server import ScriptedServer, serving
from harness.tau2.plan import Plan
from harness.tau2.simulate.loop import GREETING
from harness.tau2.simulate.reference_play import ReferencePlay

pytestmark = needs_port
SAID = "HTTP 400: Conversation roles must alternate user/assistant/user/assistant/..."


def strict(play: ReferencePlay) -> Any:
    """A model whose template takes nothing but a user's message after the system's."""

    def script(request: ChatRequest) -> ChatAnswer:
        if "<policy>" in str(request.messages[0]["content"]) and request.messages[1]["role"] != "user":
            raise EndpointError(SAID)
        return play(request)

    return script


def test_the_agent_is_not_shown_a_hidden_greeting_and_the_user_hears_it(tmp_path: Path) -> None:
    made = plan("mock", "create_task_1", greeting="hide")
    model = ScriptedChat(strict(ReferencePlay(made.tasks)))
    (outcome,) = run_plan(made, tmp_path, model).results
    assert outcome.verdict.reward == 1.0
    agents = [one.messages for one in model.requests if "<policy>" in str(one.messages[0]["content"])]
    users = [one.messages for one in model.requests if "<scenario>" in str(one.messages[0]["content"])]
    assert all(messages[1]["role"] == "user" and GREETING.content not in str(messages) for messages in agents)
    assert all(messages[1] == {"role": "user", "content": GREETING.content} for messages in users)
    line = json.loads((tmp_path / "simulations.jsonl").read_text())
    assert line["messages"][0]["content"] == GREETING.content, "it is said, and counts as ever"


@pytest.mark.parametrize("name", ["update_task_with_message_history"])
def test_a_history_that_begins_with_the_agent_is_shown_from_the_users_first_word(name: str, tmp_path: Path) -> None:
    made = plan("mock", name, greeting="hide")
    model = ScriptedChat(strict(ReferencePlay(made.tasks)))
    run_plan(made, tmp_path, model)
    first = next(one.messages for one in model.requests if "<policy>" in str(one.messages[0]["content"]))
    assert first[1]["role"] == "user"


def test_a_refusal_stops_the_run_with_the_way_out(tmp_path: Path) -> None:
    made = plan("mock", "create_task_1")
    model = ScriptedChat(strict(ReferencePlay(made.tasks)))
    with pytest.raises(SpecError, match=r"begins with the agent's own greeting \(HTTP 400: .*set `greeting` to hide"):
        run_plan(made, tmp_path, model)
    assert not (tmp_path / "simulations.jsonl").exists()
    report = run_plan(plan("mock", "create_task_1", greeting="hide"), tmp_path, model)
    assert report.n_new == 1, "the same folder takes the other setting while nothing is in it"


def other_failures(made: Plan, folder: Path, script: Any) -> str:
    (outcome,) = run_plan(made, folder, ScriptedChat(script)).results
    assert outcome.verdict.reward is None
    return outcome.termination


def test_other_refusals_are_not_taken_for_it(tmp_path: Path) -> None:
    def users(request: ChatRequest) -> ChatAnswer:
        raise EndpointError(SAID)  # the user is asked first

    def later(request: ChatRequest) -> ChatAnswer:
        if "<scenario>" in str(request.messages[0]["content"]):
            return ChatAnswer(content="Hello.")
        if len(request.messages) > 3:
            raise EndpointError(SAID)
        return ChatAnswer(content="Yes?")

    def another(request: ChatRequest) -> ChatAnswer:
        if "<scenario>" in str(request.messages[0]["content"]):
            return ChatAnswer(content="Hello.")
        raise EndpointError("HTTP 400: no such model")

    for number, script in enumerate((users, later, another)):
        made = plan("mock", "create_task_1")
        assert other_failures(made, tmp_path / str(number), script) == "infrastructure_error"


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    play = ReferencePlay(plan("mock").tasks)

    def script(request: ChatRequest) -> ChatAnswer:
        if "<policy>" in str(request.messages[0]["content"]) and request.messages[1]["role"] != "user":
            raise LookupError("After the optional system message, conversation roles must alternate")
        return play(request)

    with serving(ScriptedServer(script)) as server:
        command = [
            "tau2",
            "run",
            "-d",
            "mock",
            "--agent-llm",
            "hosted_vllm/a",
            "--agent-api-base",
            server.url,
            "--quiet",
        ]
        command += [
            "--user-llm",
            "hosted_vllm/u",
            "--user-api-base",
            server.url,
            "--out",
            str(tmp_path),
            "--task-ids",
            "create_task_1",
        ]
        assert harness(command) == 3
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and "set --greeting to hide" in err
        assert harness([*command, "--greeting", "hide"]) == 0
        assert harness([*command, "--greeting", "wave"]) == 3
        assert "--greeting: Input should be 'send' or 'hide', not 'wave'" in capsys.readouterr().err
