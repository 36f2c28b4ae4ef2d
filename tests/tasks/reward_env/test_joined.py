"""Answers that ms-swift writes as several turns: text, then each call with the role `tool_call`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from form_records import ANSWER, USER, WRONG, answers, fault, read, records, texts

from harness.core.errors import DataError


def call(city: str, **marks: Any) -> dict[str, Any]:
    return {"role": "tool_call", "content": f'{{"name": "aqi", "arguments": {{"city": "{city}"}}}}', **marks}


def printed(city: str) -> str:
    return f'<call>{{"name": "aqi", "arguments": {{"city": "{city}"}}}}</call>'


RESULT = {"role": "tool_response", "content": {"aqi": 10}}


@pytest.mark.parametrize("role", ["tool_call", "function_call"])
def test_a_call_goes_with_the_text_and_the_calls_before_it(tmp_path: Path, role: str) -> None:
    calls = [{**call("X"), "role": role}, {**call("Y"), "role": role}]
    record = {"messages": [USER, ANSWER, *calls, RESULT, ANSWER]}
    assert answers(tmp_path, record) == ["Hello." + printed("X") + printed("Y"), "Hello."]
    shared = [{"from": turn["role"], "value": turn["content"]} for turn in record["messages"]]
    assert answers(tmp_path, {"conversations": shared[:-2]}) == ["Hello." + printed("X") + printed("Y")]


def test_all_of_an_answer_is_one_in_a_record_of_ms_swift(tmp_path: Path) -> None:
    thought = {"role": "assistant", "content": "<think>hm</think>\n"}
    record = {"messages": [USER, thought, ANSWER, call("X"), RESULT, thought, ANSWER]}
    assert answers(tmp_path, record) == [f"<think>hm</think>\nHello.{printed('X')}", "<think>hm</think>\nHello."]
    masked = {"messages": [USER, {**thought, "loss": False}, ANSWER, RESULT, ANSWER]}
    assert "line 1: a part of an answer is masked" in fault(tmp_path, masked)
    assert len(answers(tmp_path, {"messages": [USER, thought, ANSWER]})) == 2, "elsewhere they are two turns"


def test_a_result_that_is_no_text_is_its_json_and_a_call_may_be_an_object(tmp_path: Path) -> None:
    turn = {"role": "tool_call", "content": {"name": "aqi", "arguments": {"city": "X"}}}
    field = read(records(tmp_path, {"messages": [USER, turn, RESULT, ANSWER]}))
    (_, r), (q, _) = texts(field)
    assert r == f"{printed('X')}<|im_end|>" and '[tool] {"aqi": 10}<|im_end|>' in q


def test_results_in_a_users_turn_move_no_boundary(tmp_path: Path) -> None:
    parts = [{"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": n}]} for n in ("3", "4")]
    used = {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "aqi", "input": {"city": "X"}}]}
    prompt = [USER, used, {"role": "user", "content": parts}]
    field = read(records(tmp_path, {"prompt": prompt, "chosen": [ANSWER], "rejected": [WRONG]}))
    ((q, r),) = texts(field)
    assert r == "Hello.<|im_end|>" and "[tool] 3<|im_end|>\n[tool] 4<|im_end|>\n[assistant] " in q


def test_of_several_calls_the_first_mark_says_whether_they_are_trained(tmp_path: Path) -> None:
    masked = {"messages": [USER, call("X", loss=False), call("Y"), RESULT, ANSWER]}
    assert answers(tmp_path, masked) == ["Hello."]
    trained = {"messages": [USER, call("X", loss=True), call("Y", loss=False), RESULT, ANSWER]}
    assert answers(tmp_path, trained) == [printed("X") + printed("Y"), "Hello."]


def test_an_answer_of_which_a_part_is_masked_is_refused(tmp_path: Path) -> None:
    both = {"messages": [USER, {**WRONG, "loss": False}, call("X", loss=False), RESULT, ANSWER]}
    assert answers(tmp_path, both) == ["Hello."]
    for text, turn in ((WRONG, call("X", loss=False)), ({**WRONG, "loss": False}, call("X"))):
        message = fault(tmp_path, {"messages": [USER, text, turn, RESULT, ANSWER]})
        assert "line 1: a part of an answer is masked" in message


@pytest.mark.parametrize(
    "turns",
    [
        [call("X"), ANSWER],
        [{**ANSWER, "tool_calls": [{"function": {"name": "aqi", "arguments": {}}}]}, call("X")],
        [ANSWER, {**call("X"), "content": f"I look. {call('X')['content']}"}],
    ],
    ids=["text after a call", "two ways to call", "text in the call's turn"],
)
def test_an_answer_that_goes_on_after_a_call_is_refused(tmp_path: Path, turns: list[dict[str, Any]]) -> None:
    assert "line 1: an answer goes on after a tool call" in fault(tmp_path, {"messages": [USER, *turns]})


def test_of_judged_data_the_last_answer_is_scored_whole(tmp_path: Path) -> None:
    """ms-swift's loss of preference data is that of what stands after the last question or result."""
    turns = [USER, WRONG, USER, ANSWER, call("X")]
    for judged in (
        {"rejected_response": "No."},
        {"rejected_response": [WRONG, call("Y")]},
        {"rejected_messages": [USER, ANSWER, USER, ANSWER, call("Y")]},
        {"label": True},
    ):
        assert answers(tmp_path, {"messages": turns, **judged}) == ["Hello." + printed("X")], judged
    alpaca = {"instruction": "Hi", "output": "Hello.", "history": [["a", "b"]], "rejected_response": "No."}
    field = read(records(tmp_path, alpaca))
    assert [r for _, r in texts(field)] == ["Hello.<|im_end|>"] and field.source["rejected_left_out"] == 1
    with pytest.raises(DataError, match="line 1: a turn before the last answer is marked as trained"):
        read(records(tmp_path, {"messages": [USER, {**WRONG, "loss": True}, USER, ANSWER], "label": True}))


@pytest.mark.parametrize(
    ("record", "wrapped"),
    [
        ({"messages": [USER, call("X")], "tools": '[{"name": "aqi"}]'}, True),
        ({"conversations": [USER, ANSWER], "tools": '[{"name": "aqi"}]'}, True),
        ({"instruction": "Hi", "output": "Hello.", "tools": '[{"name": "aqi"}]'}, True),
        ({"messages": [USER, ANSWER], "tools": [{"name": "aqi"}]}, False),
    ],
    ids=["ms-swift", "LLaMA-Factory", "LLaMA-Factory's alpaca", "TRL"],
)
def test_a_bare_function_is_shown_as_its_trainer_shows_it(
    tmp_path: Path, record: dict[str, Any], wrapped: bool
) -> None:
    q = texts(read(records(tmp_path, record)))[0][0]
    shell = '{"type": "function", "function": {"name": "aqi"}}'
    assert q.startswith(f"[tools] [{shell if wrapped else shell[33:-1]}]\n")
