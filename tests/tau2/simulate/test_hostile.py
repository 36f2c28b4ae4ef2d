"""Whatever a model wrote costs at most its own simulation, and not much time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tau2_samples import calling, needs_port, recorded, results, task_value

from harness.core.tau2.message import ToolCall
from harness.tasks.tau2.arithmetic import evaluate
from harness.tasks.tau2.sources import open_domain
from harness.tau2.recordings.rescore import NlJudge, Rescored, as_lines, prepare, rescore

pytestmark = needs_port
DEEP = 200_000


def judged(path: Path, text: str) -> dict[str, Rescored]:
    path.write_text(text, encoding="utf-8")
    prepared = prepare(path, domain=None, data=None, tasks_file=None)
    found = {item.id: item for item in rescore(prepared, nl_judge=NlJudge.NONE)}
    for line in as_lines([(prepared, list(found.values()))], NlJudge.NONE).splitlines():
        assert json.loads(line)["id"] in found
    return found


BAD: dict[str, Any] = {
    "list for text": calling("create_task", {"user_id": ["user_1"], "title": {"a": 1}}),
    "null for text": calling("create_task", {"user_id": None, "title": None}),
    "NaN": calling("update_task_status", {"task_id": "task_1", "status": float("nan")}),
    "control characters": calling("create_task", {"user_id": "user_1", "title": "\u0000\u001b[2J\u202e"}),
    "huge text": calling("create_task", {"user_id": "user_1", "title": "x" * 1_000_000}),
    "self": calling("create_task", {"self": 1, "target": 2, "_": 3}),
    "private": calling("__init__", {"db": None}),
    "no tool": calling("\ud800" * 3, {}),
    "many keys": calling("create_task", {f"k{n}": n for n in range(10_000)}),
}


@pytest.mark.parametrize("name", BAD)
def test_odd_arguments_are_a_failed_simulation_beside_a_good_one(tmp_path: Path, name: str) -> None:
    found = judged(tmp_path / "r.json", json.dumps(results({**BAD[name], "id": "bad"}, recorded())))
    assert found["good"].verdict.reward == 1.0
    assert found["bad"].verdict.reward == 0.0


UNREADABLE: dict[str, Any] = {
    "arguments are text": calling("create_task", '{"user_id": "user_1"'),
    "no messages": recorded(messages=None),
    "no object": recorded(messages=["hello"]),
    "no end": recorded(termination_reason=None),
    "no task": recorded(task_id=7),
    "other task": recorded(task_id="nothing"),
    "answer without a call": recorded(messages=[{"role": "tool", "id": "c0", "content": "x"}]),
    "call without an answer": recorded(messages=calling("create_task", {})["messages"][:1]),
    "answer to another call": recorded(
        messages=[calling("create_task", {})["messages"][0], {"role": "tool", "id": "c1", "content": "x"}]
    ),
    "number of 5,000 digits in a record": calling("update_task_status", {"task_id": "task_1", "status": 7}),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_simulation_that_cannot_be_judged_has_no_reward_but_a_reason(tmp_path: Path, name: str) -> None:
    text = json.dumps(results({**UNREADABLE[name], "id": "bad"}, recorded()))
    if "digits" in name:
        text = text.replace('"status": 7', f'"status": {"7" * 5000}')
    found = judged(tmp_path / "r.json", text)
    assert found["good"].verdict.reward == 1.0
    bad = next(item for key, item in found.items() if key != "good")
    assert bad.verdict.reward is None and bad.verdict.reason and "\n" not in bad.verdict.reason


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_nesting_that_no_parser_can_take_costs_one_simulation(tmp_path: Path, suffix: str) -> None:
    simulations = [recorded(id=f"s{n}") for n in range(3)]
    deep = calling("create_task", {"user_id": "user_1", "title": "DEEP", "text": '"}]\\'})
    simulations.insert(1, {**deep, "id": "deep"})
    lines = [{**value, "domain": "mock", "task": task_value()} for value in simulations]
    text = json.dumps(results(*simulations)) if suffix == "json" else "".join(json.dumps(x) + "\n" for x in lines)
    found = judged(tmp_path / f"r.{suffix}", text.replace('"DEEP"', "[" * DEEP + "]" * DEEP))
    assert len(found) == 4
    assert [item.verdict.reward for item in found.values()].count(1.0) == 3
    assert [item.verdict.reward for item in found.values()].count(None) == 1


def test_deep_arguments_that_a_parser_can_take_are_compared_or_fail_alone(tmp_path: Path) -> None:
    value: Any = "x"
    for _ in range(400):
        value = [value]
    bad = calling("update_task_status", {"task_id": "task_1", "status": value}, id="bad")
    found = judged(tmp_path / "r.json", json.dumps(results(bad, recorded())))
    assert found["good"].verdict.reward == 1.0 and found["bad"].verdict.reward in (0.0, None)


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9",
        "(9**9**9)",
        "9**9**9**9**9",
        "2**99999999999999999999",
        "(" * 1_900 + "1" + ")" * 90,
        "-" * 1_999 + "1",
        "9" * 1_999,
        "1/0",
        "(-8)**0.5",
        "2.0**99999",
        "1e9",
        "__import__('os')",
        "",
        "1 1",
        "()" * 100,
        "1" * 3_000,
    ],
)
def test_calculate_fails_soon(expression: str) -> None:
    environment = open_domain("airline").environment()
    started = time.process_time()
    answer = environment.call(ToolCall(name="calculate", arguments={"expression": expression}))
    assert answer.error and answer.content.startswith("Error: ")
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2 + 2", "4.0"),
        ("(100 - 30) / 3", "23.33"),
        ("7 // 2 * -1.5", "-4.5"),
        (" 2**10", "1024.0"),
        ("1+" * 400 + "1", "401.0"),
    ],
)
def test_calculate_is_pythons_arithmetic_rounded(expression: str, value: str) -> None:
    assert evaluate(expression) == value


@given(st.text(alphabet="0123456789+-*/(). ", max_size=40))
@example("2(3)")
@example("()")
@example("")
@example("1 1")
@example("10**400")
@example("(-8)**.5")
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_calculate_gives_what_python_gives_in_its_words(expression: str) -> None:
    assume(expression.count("**") < 2 and "(*" not in expression.replace(" ", ""))  # may never end; not worth a rule
    found = said(lambda: evaluate(expression))
    assert found == said(lambda: str(round(float(eval(expression, {"__builtins__": None}, {})), 2)))


def said(compute: Callable[[], str]) -> str:
    try:
        return compute()
    except (ValueError, TypeError, SyntaxError, ArithmeticError) as error:
        return f"Error: {error}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("domain", ["airline", "retail", "telecom", "mock"])
@given(data=st.data())
def test_a_tool_answers_arguments_of_any_type(domain: str, data: st.DataObject) -> None:
    opened = open_domain(domain)
    side = data.draw(st.sampled_from(["assistant", "user"] if opened.user_tools else ["assistant"]))
    tools = opened.tools if side == "assistant" else opened.user_tools
    name = data.draw(st.sampled_from(sorted(tools)))
    wanted = list(tools[name].schema()["function"]["parameters"].get("properties", {}))
    arguments = {key: data.draw(JSON, label=key) for key in wanted}
    environment = opened.environment()
    call = ToolCall(name=name, arguments=arguments, requestor=side)  # type: ignore[arg-type]
    assert isinstance(environment.call(call).content, str)
    assert opened.environment().same_databases(opened.environment())
