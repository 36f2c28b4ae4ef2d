"""The components keep upstream's semantics, the surprising ones included."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core.tau2.end_state import EndState
from harness.core.tau2.message import Message, ToolCall
from harness.core.tau2.task import Action, Criteria, RewardType, Task
from harness.reward_models.tau2 import components as of
from harness.reward_models.tau2.reward import judge

END = EndState(database_matches=True, assertions_met=None)


def says(*texts: str | None, role: Any = "assistant") -> list[Message]:
    return [Message(role=role, content=text) for text in texts]


@pytest.mark.parametrize(
    ("messages", "value"),
    [
        (says("That is $1,628 in ALL."), 1.0),
        (says("That is 1", "628 in all."), 0.0),
        (says("1628", role="user"), 0.0),
        (says("1628", role="tool"), 0.0),
        (says(None, "", "  "), 0.0),
        ([Message(role="assistant", content="1628", tool_calls=(ToolCall(name="x", arguments={}),))], 1.0),
    ],
)
def test_a_required_string_must_stand_in_one_message_of_the_agent(messages: list[Message], value: float) -> None:
    assert of.communicate(Criteria(communicate_info=("1628",)), messages) == value


def test_a_required_string_with_a_comma_is_never_found() -> None:
    assert of.communicate(Criteria(communicate_info=("1,628",)), says("1,628")) == 0.0


WANTED = Action(name="cancel", arguments={"id": "7", "reason": "late"})


@pytest.mark.parametrize(
    ("arguments", "compare", "same"),
    [
        ({"id": "7", "reason": "late"}, None, True),
        ({}, None, True),
        ({"id": "7"}, None, True),
        ({"id": "8"}, None, False),
        ({"id": "7", "reason": "late", "extra": 1}, None, False),
        ({"id": "7", "reason": "other"}, ("id",), True),
        ({"reason": "late"}, ("id",), False),
        ({"anything": 1}, (), True),
    ],
)
def test_only_the_keys_of_the_call_are_compared(
    arguments: dict[str, Any], compare: tuple[str, ...] | None, same: bool
) -> None:
    wanted = Action(name=WANTED.name, arguments=WANTED.arguments, compare_args=compare)
    assert of.matches(wanted, ToolCall(name="cancel", arguments=arguments)) is same
    assert not of.matches(wanted, ToolCall(name="other", arguments=arguments))


def test_requestor_and_order_play_no_part_in_actions() -> None:
    other = Action(name="look", arguments={})
    calls = (
        ToolCall(name="look", arguments={}, requestor="user"),
        ToolCall(name="cancel", arguments=WANTED.arguments, requestor="user"),
    )
    messages = [Message(role="user", tool_calls=calls)]
    assert of.action(Criteria(actions=(WANTED, other)), messages) == 1.0
    assert of.action(Criteria(actions=(WANTED,)), []) == 0.0
    assert of.action(Criteria(actions=()), messages) is None


def task(*basis: RewardType, **criteria: Any) -> Task:
    return Task(id="t", evaluation_criteria=Criteria(reward_basis=basis, **criteria))


def verdict(on: Task, end: EndState | None = END, nl: list[bool] | None = None, ended: str = "user_stop") -> Any:
    from tau2_samples import simulation

    return judge(on, simulation(on, says("hello"), termination_reason=ended), end, nl_met=nl)


def test_only_the_basis_gates() -> None:
    silent = task("DB", communicate_info=("never said",), actions=(WANTED,))
    assert verdict(silent).reward == 1.0
    assert verdict(silent).components["COMMUNICATE"] == verdict(silent).components["ACTION"] == 0.0
    assert verdict(task("DB", "COMMUNICATE", communicate_info=("never said",))).reward == 0.0


def test_a_component_without_criteria_is_null_and_passes() -> None:
    found = verdict(task("ENV_ASSERTION", "COMMUNICATE", "ACTION", "NL_ASSERTION"))
    assert found.reward == 1.0
    assert set(found.gates.values()) == {None}


@pytest.mark.parametrize("ended", ["max_steps", "too_many_errors", "user_error", "infrastructure_error", "else"])
def test_any_end_but_a_stop_is_worth_nothing(ended: str) -> None:
    found = verdict(task("DB"), None, ended=ended)
    assert found.reward == 0.0 and set(found.components.values()) == {None} and ended in found.reason


def test_a_task_without_criteria_is_worth_one() -> None:
    assert verdict(Task(id="t"), None).reward == 1.0


def test_a_judge_decides_and_its_absence_is_no_verdict() -> None:
    judged = task("DB", "NL_ASSERTION", nl_assertions=("polite", "brief"))
    assert verdict(judged, nl=[True, True]).reward == 1.0
    assert verdict(judged, nl=[True, False]).reward == 0.0
    assert verdict(judged).reward is None
    assert verdict(judged, EndState(database_matches=False, assertions_met=None)).reward is None
    assert verdict(task("DB", nl_assertions=("polite",))).reward == 1.0
    with pytest.raises(ValueError, match="1 verdicts for 2 assertions"):
        verdict(judged, nl=[True])
