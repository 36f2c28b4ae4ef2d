"""What a model wrote becomes a message or a reason, whatever it wrote; views hold each side's part of one transcript."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.chat import ChatAnswer, ChatCall
from harness.core.tau2.message import Message, ToolCall
from harness.tau2.simulate.utterance import AnswerLimits, ParticipantError, message_of, parse_arguments
from harness.tau2.simulate.views import seen_by

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON))
def test_arguments_are_read_as_they_were_written(value: dict[str, Any]) -> None:
    assert parse_arguments(json.dumps(value)) == value


@given(st.text())
def test_any_text_for_arguments_is_an_object_or_a_reason(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(parse_arguments(text), dict)


@pytest.mark.parametrize(
    "text", ["NaN", '{"a": Infinity}', '{"a": [-Infinity]}', '{"a": {"b": 1e999}}', "[]", "1", '"a"', "null"]
)
def test_what_is_no_object_of_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|object|bounds"):
        parse_arguments(text)


@given(
    content=st.none() | st.text(max_size=20),
    calls=st.lists(st.tuples(st.text(max_size=5), st.text(max_size=10) | st.just("{}")), max_size=4),
    side=st.sampled_from(["assistant", "user"]),
)
def test_an_answer_is_a_message_or_its_authors_failure(content: str | None, calls: list[Any], side: Any) -> None:
    made = tuple(ChatCall(id=str(number), name=name, arguments=text) for number, (name, text) in enumerate(calls))
    try:
        message = message_of(ChatAnswer(content=content, tool_calls=made), side, AnswerLimits(calls=3))
    except ParticipantError as error:
        assert str(error)
        return
    assert message.role == side and len(message.tool_calls or ()) == len(made) <= 3
    assert message.text or message.tool_calls
    json.dumps([call.arguments for call in message.tool_calls or ()], allow_nan=False)


CALL = ToolCall(id="c", name="f", arguments={"a": 1})
SEEN = [
    (Message(role="assistant", content="hi"), "assistant", "user"),
    (Message(role="user", content="hi"), "user", "assistant"),
    (Message(role="assistant", content="hm", tool_calls=(CALL,)), "assistant", None),
    (Message(role="user", content="hm", tool_calls=(CALL,)), None, "assistant"),
    (Message(role="tool", id="c", content="x", requestor="assistant"), "tool", None),
    (Message(role="tool", id="c", content="x", requestor="user"), None, "tool"),
    (Message(role="system", content="x"), None, None),
]


@pytest.mark.parametrize(("message", "agent", "user"), SEEN)
def test_who_sees_what_and_as_whom(message: Message, agent: str | None, user: str | None) -> None:
    for side, role in (("assistant", agent), ("user", user)):
        seen = seen_by(side, message)  # type: ignore[arg-type]
        assert (seen and seen["role"]) == role
