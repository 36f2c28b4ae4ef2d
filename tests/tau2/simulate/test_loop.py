"""The loop: who speaks when, who sees what, and every way in which a simulation ends."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from tau2_online import mock_task, plan, simulate
from tau2_samples import needs_port

from harness.core.chat import ChatAnswer, ContextOverflow, EndpointError, Usage
from harness.core.tau2.message import Message, ToolCall
from harness.core.tau2.task import InitialState
from harness.engines.scripted.chat import calling
from harness.tasks.tau2.sources import open_domain
from harness.tau2.simulate.loop import GREETING, Limits
from harness.tau2.simulate.prompts import Prompts, scenario
from harness.tau2.simulate.seeds import trial_seeds

pytestmark = needs_port
CREATE = ("create_task", {"user_id": "user_1", "title": "Important Meeting"})
WRONG = ("create_task", {"user_id": "nobody", "title": "x"})


def ends(*arguments: Any, **more: Any) -> tuple[str, str | None]:
    played, _, _ = simulate(*arguments, **more)
    return played.termination, played.reason


def test_the_greeting_comes_first_and_then_the_user_speaks() -> None:
    played, agent, user = simulate([calling(CREATE), "Done."], ["A task, please.", "Thanks. ###STOP###"])
    assert [message.role for message in played.messages] == [
        "assistant",
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    assert played.messages[0] == GREETING and played.usages[0] is None
    assert (played.termination, played.steps, played.errors) == ("user_stop", 5, 0)
    assert len(agent.requests) == len(user.requests) == 2


def test_each_side_sees_its_own_conversation() -> None:
    _, agent, user = simulate(
        [calling(CREATE, content="One moment."), "Done."],
        ["Hello.", "###STOP###"],
    )
    seen = agent.requests[-1].messages
    assert [message["role"] for message in seen] == ["system", "assistant", "user", "assistant", "tool"]
    assert seen[3]["content"] == "One moment." and seen[3]["tool_calls"][0]["function"]["name"] == "create_task"
    assert json.loads(seen[3]["tool_calls"][0]["function"]["arguments"]) == CREATE[1]
    assert seen[4]["tool_call_id"] == seen[3]["tool_calls"][0]["id"]
    heard = user.requests[-1].messages
    assert [(message["role"], message["content"]) for message in heard[1:]] == [
        ("user", GREETING.content),
        ("assistant", "Hello."),
        ("user", "Done."),
    ], "text beside tool calls never reaches the user"


def test_the_users_calls_are_hidden_from_the_agent() -> None:
    played, agent, user = simulate(
        ["Look at your phone.", "Fine."], ["Hello.", calling(("check_notifications", {})), "Nothing.", "###STOP###"]
    )
    assert played.termination == "user_stop"
    assert [m["content"] for m in agent.requests[-1].messages[1:]] == [
        GREETING.content, "Hello.", "Look at your phone.", "Nothing.",
    ]  # fmt: skip
    assert [m["role"] for m in user.requests[2].messages] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "tool",
    ]
    answer = next(message for message in played.messages if message.role == "tool")
    assert answer.requestor == "user" and not answer.error
    assert {tool["function"]["name"] for tool in user.requests[0].tools} == {
        "check_notifications",
        "dismiss_notification",
    }
    assert "check_notifications" not in {tool["function"]["name"] for tool in agent.requests[0].tools}


def test_the_agent_cannot_use_the_users_tools() -> None:
    played, _, _ = simulate([calling(("check_notifications", {})), "Done."])
    answer = played.messages[3]
    assert answer.error and answer.content == "Error: Tool 'check_notifications' not found." and played.errors == 1


def test_prompts_have_upstreams_structure() -> None:
    task = mock_task()
    _, agent, user = simulate(["Done."])
    system = agent.requests[0].messages[0]["content"]
    assert system.startswith("<instructions>\n") and "\n</instructions>\n<policy>\n" in system
    assert system.endswith("\n</policy>") and agent.requests[0].tool_choice is None
    told = user.requests[0].messages[0]["content"]
    assert told.startswith("# User Simulation Guidelines")
    assert told.endswith(f"\n\n<scenario>\n{scenario(task.user_scenario)}\n</scenario>")


def test_a_scenario_is_worded_as_upstream_words_it() -> None:
    parts = {
        "domain": "retail",
        "reason_for_call": "a\nb",
        "known_info": "k",
        "unknown_info": None,
        "task_instructions": "t",
    }
    assert scenario({"persona": "P", "instructions": parts}) == (
        "Persona:\n\tP\nInstructions:\n\tDomain: retail\n\tReason for call:\n\t\ta\n\t\tb\n"
        "\tKnown info:\n\t\tk\n\tTask instructions:\n\t\tt"
    )
    assert scenario({"instructions": "plain"}) == "Instructions:\n\tplain"


@pytest.mark.parametrize("token", ["###STOP###", "###TRANSFER###", "###OUT-OF-SCOPE###"])
def test_the_user_stops_by_text_alone(token: str) -> None:
    assert ends([], [f"bye {token}"]) == ("user_stop", None)
    user = ["Hello.", calling(("check_notifications", {}), content=token), "###STOP###"]
    played, _, _ = simulate(["A.", "B."], user)
    assert played.termination == "user_stop" and played.messages[-1].text == "###STOP###" and played.steps == 5


def test_the_agent_of_a_conversation_cannot_stop_it() -> None:
    played, _, _ = simulate(["###STOP###"], ["Hello.", "Are you there? ###STOP###"])
    assert len(played.messages) == 4


def test_a_stop_on_the_last_step_is_overwritten_by_the_limit() -> None:
    assert ends(["Done."], limits=Limits(max_steps=4)) == ("user_stop", None)
    assert ends(["Done."], limits=Limits(max_steps=3)) == ("max_steps", "3 steps")


def test_limits_wait_for_tools_that_are_to_be_run() -> None:
    played, _, _ = simulate([calling(CREATE), "Done."], limits=Limits(max_steps=2))
    assert played.termination == "max_steps" and played.steps == 3 and played.messages[-1].role == "tool"


def test_errors_of_both_sides_count_together() -> None:
    user = ["Hello.", calling(("dismiss_notification", {"notification_id": "none"})), "Hm."]
    played, _, _ = simulate([calling(WRONG, WRONG), "Look."], user, limits=Limits(max_errors=3))
    assert (played.termination, played.errors, played.messages[-1].role) == ("too_many_errors", 3, "tool")


def test_a_timeout_is_looked_at_between_steps_and_does_not_overwrite_a_stop() -> None:
    assert ends([], ["Hello."], limits=Limits(timeout_s=0.0))[0] == "timeout"
    assert ends([], ["###STOP###"], limits=Limits(timeout_s=0.0))[0] == "user_stop"


FAULTS: dict[str, tuple[ChatAnswer | str | Exception, str]] = {
    "malformed": (calling(("create_task", '{"user_id": ')), "malformed arguments in the call of 'create_task'"),
    "no object": (calling(("create_task", "[1]")), "expected a JSON object, found list"),
    "NaN": (calling(("create_task", '{"title": NaN}')), "NaN is no JSON"),
    "infinity": (calling(("create_task", '{"title": [-1e999]}')), "a number beyond all bounds"),
    "deep": (calling(("create_task", '{"a":' + "[" * 150 + "]" * 150 + "}")), "nested more than 100 levels"),
    "deeper": (calling(("create_task", '{"a":' + "[" * 99_999 + "]" * 99_999 + "}")), "nested more than 100 levels"),
    "digits": (calling(("create_task", '{"a":' + "9" * 5_000 + "}")), "malformed arguments"),
    "cut off": (dataclasses.replace(calling(("f", "{")), finish_reason="length"), "cut off at its longest"),
    "empty": (ChatAnswer(content=""), "an empty message"),
    "blank": ("  \n ", "an empty message"),
    "nothing": (ChatAnswer(), "an empty message"),
    "huge": ("x" * 1_000_001, "an answer of 1,000,001 characters"),
    "many calls": (calling(*[CREATE] * 257), "257 tool calls in one message; at most 256"),
    "overflow": (ContextOverflow("8 tokens"), "the context overflowed: 8 tokens"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_a_model_broke_is_its_own_failure_with_a_reason(name: str) -> None:
    reply, reason = FAULTS[name]
    end, why = ends([reply])
    assert end == "agent_error" and why is not None and reason in why and len(why) < 400
    assert ends([], [reply])[0] == "user_error"


def test_an_endpoint_that_fails_is_nobodys_fault() -> None:
    with pytest.raises(EndpointError, match="gone"):
        simulate([EndpointError("gone")])


def test_a_call_without_arguments_has_none() -> None:
    played, _, _ = simulate([calling(("get_users", "")), "Done."])
    assert played.errors == 0


def test_every_call_of_a_message_is_answered_in_order() -> None:
    played, _, _ = simulate([calling(CREATE, WRONG, CREATE), "Done."])
    assert [message.error for message in played.messages if message.role == "tool"] == [False, True, False]


def test_what_answers_cost_is_counted_per_side_also_of_a_broken_one() -> None:
    broken = dataclasses.replace(calling(("f", "{")), usage=Usage(prompt_tokens=7, completion_tokens=2, cost=0.5))
    fine = ChatAnswer(content="Yes?", usage=Usage(prompt_tokens=5, completion_tokens=1))
    played, _, _ = simulate([fine, broken], ["Hello.", "Go on."])
    assert played.spent["assistant"] == Usage(prompt_tokens=12, completion_tokens=3, cost=0.5)
    assert played.usages[2] == fine.usage


def test_the_seed_reaches_every_request_and_trials_have_upstreams() -> None:
    _, agent, user = simulate(["Done."], seed=626729)
    assert {request.seed for request in agent.requests + user.requests} == {626729}
    assert trial_seeds(300, 4) == [626729, 373753, 361454, 1567] and trial_seeds(300, 2) == [626729, 373753]
    assert [(job.trial, job.seed) for job in plan("mock", "create_task_1", trials=2).jobs()] == [
        (0, 626729),
        (1, 373753),
    ]


def test_solo_there_is_no_user_and_done_ends_it() -> None:
    played, agent, user = simulate([calling(CREATE), calling(CREATE, ("done", {}))], None)
    assert played.termination == "agent_stop" and not user.requests
    assert [message.role for message in played.messages] == ["assistant", "tool", "assistant"]
    assert played.messages[-1].content == "###STOP###" and played.messages[-1].tool_calls is None
    assert played.steps == 2, "the first message is no step"
    asked = agent.requests[0]
    assert asked.tool_choice == "required" and len(asked.messages) == 1
    assert asked.messages[0]["content"].endswith(f"<ticket>\n{mock_task().ticket}\n</ticket>")
    names = [tool["function"]["name"] for tool in asked.tools]
    assert names[-1] == "done" and "check_notifications" in names and "create_task" in names


def test_solo_the_agent_uses_the_users_tools() -> None:
    played, _, _ = simulate([calling(("check_notifications", {})), calling(("done", {}))], None)
    assert played.errors == 0


def test_solo_text_is_an_error_and_a_stop_token_beside_calls_a_stop() -> None:
    assert ends(["I am done ###STOP###"], None)[0] == "agent_error"
    assert ends([calling(CREATE), "Hello?"], None)[0] == "agent_error"
    assert ends([calling(CREATE, content="###STOP###")], None)[0] == "agent_stop"


def test_solo_the_limits_hold() -> None:
    played, _, _ = simulate(lambda _: calling(CREATE), None, limits=Limits(max_steps=5))
    assert played.termination == "max_steps" and played.steps == 5
    assert ends(lambda _: calling(WRONG), None, limits=Limits(max_errors=2))[0] == "too_many_errors"


CALL = ToolCall(id="h1", name="create_task", arguments=CREATE[1])
ANSWER = Message(role="tool", id="h1", content="{}")
HISTORIES: dict[str, tuple[tuple[Message, ...], list[str]]] = {
    "agent spoke": ((Message(role="user", content="Hi"), Message(role="assistant", content="Yes?")), ["user"]),
    "user spoke": ((Message(role="user", content="Hi"),), ["assistant"]),
    "tool answered": (
        (Message(role="user", content="Hi"), Message(role="assistant", tool_calls=(CALL,)), ANSWER),
        ["assistant"],
    ),
    "user stopped": ((Message(role="user", content="###STOP###"),), []),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_a_message_history_goes_on_with_whoever_is_next(name: str) -> None:
    history, following = HISTORIES[name]
    task = dataclasses.replace(mock_task(), initial_state=InitialState(message_history=history))
    played, _, _ = simulate(["Done."], ["###STOP###"], task=task)
    assert played.messages[: len(history)] == history and played.termination == "user_stop"
    assert [message.role for message in played.messages[len(history) :]][: len(following)] == following
    if not following:
        assert played.messages == history


def test_a_history_that_created_something_starts_there() -> None:
    task = mock_task("update_task_with_message_history")
    played, _, user = simulate(["Done."], [calling(("check_notifications", {})), "###STOP###"], task=task)
    assert played.messages[0].role == "user" and len(user.requests[0].messages) == 3


def test_prompts_are_told_apart() -> None:
    one = Prompts(policy="a", guidelines="b")
    assert one.digest != dataclasses.replace(one, agent_instructions="c").digest


def test_tools_are_shown_in_upstreams_order() -> None:
    first_and_last = {name: (next(iter(tools)), list(tools)[-1]) for name, tools in _tools().items()}
    assert first_and_last == {
        "airline": ("book_reservation", "get_flight_status"),
        "retail": ("calculate", "transfer_to_human_agents"),
        "telecom": ("get_customer_by_phone", "refuel_data"),
        "mock": ("create_task", "transfer_to_human_agents"),
    }


def _tools() -> dict[str, Any]:
    return {name: open_domain(name).tools for name in ("airline", "retail", "telecom", "mock")}
