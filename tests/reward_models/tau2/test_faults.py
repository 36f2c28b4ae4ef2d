"""Each rule finds the fault it is for, with its turn, and leaves alone what only looks like one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tau2_samples import needs_port, shared

from harness.core.tau2.fault import Fault
from harness.core.tau2.message import Message, ToolCall
from harness.core.tau2.simulation import Simulation
from harness.core.tau2.task import Action, Criteria, RewardType, Task
from harness.reward_models.tau2.faults import RecordedFailure, attribute, count
from harness.reward_models.tau2.known_facts import facts
from harness.reward_models.tau2.reward import NEEDS_JUDGE, NOTHING, Verdict, unjudged
from harness.tau2.recordings.rescore import NlJudge, prepare, rescore

KNOWN = "You are Mia Garcia in zip code 19122. Your user id is mia_garcia_4516 and your e-mail mia.garcia@example.com."
TASK = Task(
    id="t",
    user_scenario={
        "instructions": {
            "domain": "retail",
            "reason_for_call": "Cancel order #W2378156 and send it to zip code 10001.",
            "known_info": KNOWN,
            "task_instructions": "If asked for an alternative: mia.other@example.com is your second address.",
        }
    },
    evaluation_criteria=Criteria(actions=(Action(name="cancel", arguments={}),)),
)
ASK = "Sure. Could you give me your user id?"
CHANGING = {"toggle_airplane_mode", "reboot_device", "reset_apn_settings"}


def agent(text: str | None = None, *calls: ToolCall) -> Message:
    return Message(role="assistant", content=text, tool_calls=calls or None)


def user(text: str | None = None, *calls: ToolCall) -> Message:
    return Message(role="user", content=text, tool_calls=calls or None)


def called(name: str, side: Any = "assistant", *, answer: str = "ok", error: bool = False) -> list[Message]:
    call = ToolCall(name=name, arguments={"x": 1}, id="c", requestor=side)
    tool = Message(role="tool", id="c", content=answer, requestor=side, error=error)
    return [Message(role=side, tool_calls=(call,)), tool]


def verdict(reward: float | None = 0.0) -> Verdict:
    components: dict[RewardType, float | None] = {**NOTHING, "DB": reward}
    return Verdict(reward=reward, components=components, basis=("DB",))


def cause(*messages: Message, end: str = "user_stop", task: Task = TASK, **more: Any) -> Fault:
    played = Simulation(id="s", task_id="t", termination_reason=end, messages=messages)
    found = attribute(task, played, more.pop("given", verdict()), changing=CHANGING, **more)
    assert found is not None
    return found


GREETING = agent("Hi! How can I help you today?")
HELLO = user("I want to cancel my order.")
WORK = [GREETING, HELLO, agent(ASK), user("It is mia_garcia_4516."), *called("cancel"), agent("Done.")]
STOP = user("Thanks! ###STOP###")


def test_a_failure_without_a_users_fault_is_the_agents() -> None:
    found = cause(*WORK, STOP)
    assert (found.cause, found.rule, found.words, found.turn) == ("agent", "wrong_end_state", "failed DB", None)


def test_success_and_a_missing_judge_are_nobodys_fault() -> None:
    played = Simulation(id="s", task_id="t", termination_reason="user_stop", messages=(GREETING, STOP))
    assert attribute(TASK, played, verdict(1.0)) is None
    assert attribute(TASK, played, unjudged(NEEDS_JUDGE)) is None


def test_what_was_recorded_goes_before_the_rules() -> None:
    found = cause(GREETING, STOP, given=unjudged("x"), failure=RecordedFailure("judge", "no verdict in 3 answers"))
    assert (found.cause, found.rule, found.words) == ("judge", "recorded", "no verdict in 3 answers")
    assert cause(*WORK, given=unjudged("KeyError: 'a'")).rule == "unjudgeable"


@pytest.mark.parametrize(
    ("end", "whose", "rule"),
    [
        ("infrastructure_error", "infrastructure", "endpoint"),
        ("unexpected_error", "infrastructure", "unexpected_error"),
        ("user_error", "user", "unusable_answer"),
        ("agent_error", "agent", "malformed"),
        ("context_window_exceeded", "agent", "context"),
        ("timeout", "agent", "timeout"),
        ("max_steps", "agent", "max_steps"),
        ("something_new", "agent", "other"),
    ],
)
def test_an_end_can_be_a_cause(end: str, whose: str, rule: str) -> None:
    found = cause(*WORK, end=end, given=Verdict(reward=0.0, components=NOTHING))
    assert (found.cause, found.rule, found.turn) == (whose, rule, len(WORK) - 1)


@pytest.mark.parametrize(("mine", "users", "whose"), [(10, 0, "agent"), (5, 5, "agent"), (4, 6, "user")])
def test_tool_errors_are_whose_they_mostly_are(mine: int, users: int, whose: str) -> None:
    errors = [called(f"a{n}", error=True) for n in range(mine)] + [
        called(f"u{n}", "user", error=True) for n in range(users)
    ]
    found = cause(GREETING, HELLO, *(message for pair in errors for message in pair), end="too_many_errors")
    assert (found.cause, found.rule) == (whose, "tool_errors")
    assert found.turn == 1 + 2 * len(errors)


USERS: dict[str, tuple[list[Message], str, int]] = {
    "stops at once": ([GREETING, user("###STOP###")], "stop_before_agent", 1),
    "stops after its own first words": ([GREETING, HELLO, user("###TRANSFER###")], "stop_before_agent", 2),
    "stops instead of answering": ([GREETING, HELLO, agent(ASK), user("###OUT-OF-SCOPE###")], "stop_before_agent", 3),
    "another user id": ([*WORK[:3], user("mia_garcia_4517"), STOP], "contradicts_scenario", 3),
    "another e-mail": ([*WORK[:3], user("It's mia@example.com."), STOP], "contradicts_scenario", 3),
    "another zip code": ([*WORK[:3], user("My zip code is 19123"), STOP], "contradicts_scenario", 3),
    "another name": ([*WORK[:3], user("My name is Mei Kovacs"), STOP], "contradicts_scenario", 3),
    "speaks of being a model": ([*WORK, user("As an AI, I have no orders."), STOP], "left_character", 7),
    "speaks of the role-play": ([*WORK, user("That ends the role-play."), STOP], "left_character", 7),
    "speaks as the agent": ([*WORK, user("How may I assist you today?"), STOP], "spoke_as_agent", 7),
    "writes on after the token": ([*WORK, user("I say ###STOP### once it is done.")], "token_in_text", 7),
    "says nothing": ([*WORK, user("  "), agent("Hello?"), STOP], "empty_message", 7),
    "repeats itself": (
        [GREETING, *(m for n in range(3) for m in (user("Where is my order now?"), agent(f"Let me see {n}.")))],
        "loop",
        5,
    ),
    "repeats a call": ([*WORK, *called("check", "user") * 4, STOP], "loop", 13),
    "changes what nobody mentioned": ([*WORK, *called("toggle_airplane_mode", "user"), STOP], "unasked_call", 7),
}


@pytest.mark.parametrize("name", USERS)
def test_a_users_fault_is_found_at_its_turn(name: str) -> None:
    messages, rule, turn = USERS[name]
    found = cause(*messages)
    assert (found.cause, found.rule, found.turn) == ("user", rule, turn)
    assert found.words and "\n" not in found.words


FINE: dict[str, list[Message]] = {
    "a stop after a refusal": [GREETING, HELLO, agent("I cannot do that. Can I help with anything else?"), STOP],
    "a stop after one step of work": [GREETING, HELLO, *called("cancel"), STOP],
    "a stop after a statement": [GREETING, HELLO, agent("We do not cancel orders."), STOP],
    "facts of the scenario": [*WORK, user("mia.other@example.com, zip code 10001, #w2378156, MIA_GARCIA_4516"), STOP],
    "a kind that the scenario lacks": [*WORK, user("My phone number is 555-123-2002."), STOP],
    "a fact that the agent gave": [*WORK, agent("Is it mia@home.org?"), user("Yes, mia@home.org"), STOP],
    "yes three times": [*WORK, *(m for n in range(3) for m in (user("Yes, please."), agent(f"And {n}?"))), STOP],
    "a call that was asked for": [
        *WORK,
        agent("Please turn airplane mode off."),
        *called("toggle_airplane_mode", "user"),
        agent("Now restart your phone."),
        *called("reboot_device", "user"),
        STOP,
    ],
    "looking": [*WORK, *called("check_status_bar", "user"), STOP],
    "the token at the end": [*WORK, user("All done, thank you. ###STOP###\n")],
    "both tokens": [*WORK, user("###TRANSFER### ###STOP###")],
    "the agent's help quoted": [*WORK, user("You said you could help me with my order."), STOP],
}


@pytest.mark.parametrize("name", FINE)
def test_what_only_looks_like_a_users_fault_is_none(name: str) -> None:
    assert cause(*FINE[name]).cause == "agent"


def test_an_agent_who_loops_first_is_at_fault_for_both_loops() -> None:
    turns = [m for _ in range(4) for m in (user("Where is my order now?"), agent("I am sorry to hear that."))]
    found = cause(GREETING, *turns, end="max_steps")
    assert (found.cause, found.rule, found.words) == ("agent", "loop", "the agent repeated the same message")


def test_the_first_of_several_faults_counts() -> None:
    found = cause(*WORK, user("As an AI I agree."), agent("?"), user("mia_garcia_9999"), STOP)
    assert found.rule == "left_character"


def test_facts_have_a_form_of_their_own() -> None:
    text = "I paid twenty dollars on May 20, in 10002 steps, for a BOOKING of FLIGHTS; PLEASE hurry, order 12."
    assert facts(text) == []
    assert {fact.kind for fact in facts(KNOWN)} == {"name", "zip code", "user id", "e-mail address"}
    assert [fact.value for fact in facts("reservation NO6JO3, confirmation number: JM01MG, C1001, (555) 123-2002")] == [
        "(555) 123-2002",
        "NO6JO3",
        "JM01MG",
        "C1001",
    ]


TEXTS = st.text(max_size=30) | st.sampled_from(["###STOP###", KNOWN, "my name is A B", ""])
MESSAGES = st.lists(
    st.builds(
        Message,
        role=st.sampled_from(["assistant", "user", "tool", "system"]),
        content=st.none() | TEXTS,
        requestor=st.sampled_from(["assistant", "user"]),
        error=st.booleans(),
        tool_calls=st.none() | st.tuples(st.builds(ToolCall, name=st.text(max_size=5), arguments=st.just({"a": [1]}))),
    ),
    max_size=12,
)
ENDS = ["user_stop", "agent_stop", "max_steps", "too_many_errors", "agent_error", "infrastructure_error", "other"]


@given(messages=MESSAGES, end=st.sampled_from(ENDS))
def test_every_failed_simulation_has_one_cause_and_a_turn_that_exists(messages: list[Message], end: str) -> None:
    found = cause(*messages, end=end)
    assert found.turn is None or 0 <= found.turn < len(messages)
    assert sum(count([found, None]).values()) == 1


@needs_port
@pytest.mark.parametrize("domain", ["airline", "retail", "telecom", "mock"])
def test_no_recorded_user_is_blamed_who_only_said_hello_and_stop(domain: str) -> None:
    path = shared("tau2_parity", f"{domain}.results.json.gz")
    prepared = prepare(path, domain=None, data=shared("tau2_tasks") if domain == "mock" else None, tasks_file=None)
    for simulation, item in zip(prepared.recording.simulations, rescore(prepared, nl_judge=NlJudge.PASS), strict=True):
        assert (item.fault is None) == (item.verdict.reward == 1.0)
        ended = simulation.termination_reason  # type: ignore[union-attr]
        wanted = {"infrastructure_error": "infrastructure", "user_error": "user"}.get(ended, "agent")
        assert item.fault is None or item.fault.cause == wanted, (item.id, item.fault)
