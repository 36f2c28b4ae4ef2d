"""A model that thinks, through the whole loop: its thoughts reach nobody but itself, and no verdict."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from tau2_online import http_chat, plan, run_plan, simulate
from tau2_samples import needs_port

from harness.core.chat import ChatAnswer, ChatRequest
from harness.core.tau2.task import Criteria
from harness.core.tau2.upstream import OURS
from harness.engines.chat.wire import parse_completion, thinks_as_usual
from harness.engines.scripted.chat import calling
from harness.engines.scripted.server import ScriptedServer, serving
from harness.reward_models.tau2.components import communicate
from harness.tasks.tau2.recording import read_recording
from harness.tau2.simulate.reference_play import ReferencePlay

pytestmark = needs_port
SECRET = "the secret is 4711"


def thinking(answer: ChatAnswer, form: str) -> ChatAnswer:
    """The answer of a model that thinks first, as an endpoint with or without a parser of thoughts sends it."""
    if form == "apart":
        return dataclasses.replace(answer, reasoning=SECRET)
    opening = "" if form == "opened by the prompt" else "<think>"
    return dataclasses.replace(answer, content=f"{opening}{SECRET}</think>{answer.content or ''}")


@pytest.fixture(params=["apart", "inline", "opened by the prompt"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(
    folder: Path, form: str, *, upstream: Any = OURS
) -> tuple[list[dict[str, Any]], list[ChatRequest], list[ChatRequest]]:
    """The mock domain by a thinking agent and a thinking user, over a real endpoint: lines, and what each side was asked."""
    made = plan("mock", "create_task_1", "update_task_1", upstream=upstream)
    agents: list[ChatRequest] = []
    users: list[ChatRequest] = []
    play = ReferencePlay(made.tasks)

    def script(request: ChatRequest) -> ChatAnswer:
        agent = any(tool["function"]["name"] == "create_task" for tool in request.tools)
        (agents if agent else users).append(request)
        return thinking(play(request), form)

    with serving(ScriptedServer(script)) as server:
        run_plan(made, folder, http_chat(server.url))
    lines = [json.loads(line) for line in (folder / "simulations.jsonl").read_text().splitlines()]
    return lines, agents, users


def test_no_thought_reaches_the_other_side_or_a_verdict(tmp_path: Path, form: str) -> None:
    lines, agents, users = run(tmp_path / "run", form)
    assert len(lines) == 2 and all(line["reward_info"]["reward"] == 1.0 for line in lines), "it plays the reference"
    for request in users:
        heard = [m for m in request.messages if m["role"] == "user"]
        assert heard and SECRET not in json.dumps(heard)
    for request in agents:
        assert SECRET not in json.dumps([m for m in request.messages if m["role"] != "assistant"])
    for line in lines:
        spoken = [m for m in line["messages"] if m["role"] in ("assistant", "user") and m.get("usage")]
        assert spoken and all(m["reasoning_content"] == SECRET for m in spoken), "the transcript has it"
        assert SECRET not in json.dumps([{**m, "reasoning_content": None} for m in line["messages"]])


def test_a_model_is_sent_its_own_thoughts_as_it_gave_them(tmp_path: Path, form: str) -> None:
    _, agents, _ = run(tmp_path / "run", form)
    own = [m for request in agents for m in request.messages if m["role"] == "assistant"][1:]
    later = [m for m in own if m.get("tool_calls")]
    assert later
    for message in later:
        if form == "apart":
            assert message["reasoning_content"] == SECRET and SECRET not in (message["content"] or "")
        else:
            assert f"{SECRET}</think>" in message["content"] and "reasoning_content" not in message


def test_as_upstream_has_it_thoughts_beside_the_content_are_forgotten_and_those_in_it_are_said(
    tmp_path: Path, form: str
) -> None:
    upstream = dataclasses.replace(OURS, thoughts=True)
    _, agents, users = run(tmp_path / "run", form, upstream=upstream)
    heard = json.dumps([m for request in users for m in request.messages if m["role"] == "user"])
    own = json.dumps([m for request in agents for m in request.messages])
    assert (SECRET in heard) == (form != "apart") == (SECRET in own)
    assert "reasoning_content" not in own


def test_communicate_counts_what_is_said_and_not_what_is_thought() -> None:
    """The words asked for stand in a thought alone."""
    criteria = Criteria(communicate_info=("4711",), reward_basis=("COMMUNICATE",))
    for body in ({"content": f"<think>{SECRET}</think>Done."}, {"content": "Done.", "reasoning_content": SECRET}):
        answer = parse_completion({"choices": [{"message": body, "finish_reason": "stop"}]})
        played, _, _ = simulate([calling(("create_task", {"user_id": "user_1", "title": "x"})), answer])
        assert communicate(criteria, played.messages) == 0.0
        assert communicate(dataclasses.replace(criteria, communicate_info=("Done",)), played.messages) == 1.0


def test_an_answer_that_is_nothing_but_a_thought_is_the_agents_fault_and_says_so() -> None:
    cut = parse_completion({"choices": [{"message": {"content": "<think>hm, hm"}, "finish_reason": "length"}]})
    played, _, _ = simulate([cut])
    assert played.termination == "agent_error"
    assert played.reason == "an empty message after a thought of 6 characters (the answer was cut off at its longest)"


def test_thoughts_are_read_again_from_a_recording(tmp_path: Path) -> None:
    run(tmp_path / "run", "apart")
    recording = read_recording(tmp_path / "run" / "simulations.jsonl")
    messages = [m for one in recording.simulations for m in one.messages]  # type: ignore[union-attr]
    assert {m.reasoning for m in messages if m.role == "assistant" and m.tool_calls} == {SECRET}


def test_a_parser_that_expects_a_thought_does_not_swallow_an_answer_without_one() -> None:
    """vLLM's parsers take an answer without marks for a thought that never ends; its tokens say that it is none."""

    def body(*tokens: str, finish: str = "stop") -> dict[str, Any]:
        listed = [{"token": token, "logprob": -1.0} for token in tokens]
        message = {"content": None, "reasoning": "Hello there."}
        return {"choices": [{"message": message, "finish_reason": finish, "logprobs": {"content": listed}}]}

    assert parse_completion(body("Hello", " there", ".")).content == "Hello there."
    assert parse_completion(body("<think>", "Hello", " there", ".")).content is None
    assert parse_completion(body("Hello", " there", "."), opened=True).content is None
    assert parse_completion(body("Hello", " there", ".", finish="length")).content is None, "it may have gone on"
    assert parse_completion(body()).content is None, "without tokens nobody knows"


@pytest.mark.parametrize(
    ("message", "reasoning", "content"),
    [
        ({"content": "a", "reasoning_content": "r"}, "r", "a"),
        ({"content": "a", "reasoning": "r"}, "r", "a"),
        ({"content": [{"type": "thinking", "thinking": "r"}, {"type": "text", "text": "a"}]}, "r", "a"),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "r"}]}, {"type": "text", "text": "a"}]}, "r", "a"),
        ({"content": "a", "thinking_blocks": [{"type": "thinking", "thinking": "r", "signature": "s"}]}, "r", "a"),
        ({"content": "[THINK]r[/THINK]a"}, "r", "a"),
        ({"content": "a"}, None, "a"),
    ],
)  # fmt: skip
def test_every_form_of_a_thought_is_one(message: dict[str, Any], reasoning: str | None, content: str) -> None:
    answer = parse_completion({"choices": [{"message": message}]})
    assert (answer.reasoning, answer.content) == (reasoning, content)


def test_a_thought_that_a_prompt_opened_and_that_was_cut_off_is_not_said() -> None:
    """Without a parser nothing marks it. Behind one that found its end there is no mark either: the tokens tell, or how it ended."""

    def said(content: str, *tokens: str, finish: str = "stop", opened: bool = True) -> str | None:
        choice: dict[str, Any] = {"message": {"content": content}, "finish_reason": finish}
        if tokens:
            choice["logprobs"] = {"content": [{"token": token, "logprob": -1.0} for token in tokens]}
        return parse_completion({"choices": [choice]}, opened=opened).content

    assert said("Hm, the", "Hm", ", the", finish="length") is None and said("Hm, the", finish="length") is None
    assert said("Hm", "Hm", "<|im_end|>") is None, "it never left the thought"
    assert said("Yes.", "</", "think", ">", "Yes", ".") == "Yes.", "a parser took an empty thought"
    assert said("Yes.") == "Yes." and said("Hm.</think>Yes.") == "Yes."
    assert said("Yes, the", finish="length", opened=False) == "Yes, the"
    assert said("One. <think>Hm", finish="length", opened=False) == "One."
    assert said("Say <think> first.", opened=False) == "Say <think> first."


@pytest.mark.parametrize(
    ("given", "opens"),
    [
        (None, True),
        ({}, True),
        ({"enable_thinking": False}, False),
        ({"reasoning_effort": "none"}, False),
        ({"thinking": True}, True),
        ({"clear_thinking": False}, True),
        ({"preserve_thinking": False, "add_vision_id": False}, True),
    ],
)
def test_a_request_that_turns_thinking_off_is_not_within_a_thought(given: dict[str, Any] | None, opens: bool) -> None:
    assert thinks_as_usual({"chat_template_kwargs": given}) is opens
