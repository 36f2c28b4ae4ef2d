"""What endpoints leave out, write otherwise or refuse, and whose failure that is: the checkpoint's, a role's, or nobody's."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from inspect_tasks import asked, component, measured, on, rows, write_task
from raw_endpoint import raw_endpoint
from served import ServedSubject

from harness.core.chat import ChatAnswer, ChatRequest
from harness.core.component import Outcome
from harness.core.endpoint import Endpoint
from harness.engines.scripted.chat import calling
from harness.engines.scripted.trouble import Trouble

PLAIN = "@task\ndef t():\n    return Task(dataset=samples(), scorer=includes())\n"
TOOLS = (
    '@tool\ndef shelf():\n    async def execute(number: int):\n        """Read what is on a shelf.\n\n        Args:\n'
    '            number: Which shelf.\n        """\n        return f"word{number}"\n\n    return execute\n\n\n'
    "@task\ndef t():\n    return Task(dataset=samples()[:2], solver=[use_tools(shelf()), generate()], scorer=includes(), message_limit=9)\n"
)
GRADED = "@task\ndef t():\n    return Task(dataset=samples(), scorer=model_graded_qa())\n"
CRASHES = (
    "import json\n\n\n@solver\ndef strict():\n    async def solve(state, generate):\n        state = await generate(state)\n"
    "        assert state.output.completion, 'no JSON'\n        return state\n    return solve\n\n\n"
    "@task\ndef t():\n    return Task(dataset=samples(), solver=strict(), scorer=includes())\n"
)


def number_of(body: dict[str, Any]) -> str:
    return str(body["messages"][0]["content"]).partition("shelf ")[2].partition("?")[0]


def asked_raw(folder: Path, code: str, answer: Any) -> tuple[Outcome, list[dict[str, Any]]]:
    it = component(folder, **write_task(folder, code))
    with raw_endpoint(answer) as (url, bodies):
        subject = ServedSubject(None, None, Endpoint(api_base=url, model="m", how="external"))
        return measured(it, subject, folder / "s"), bodies


@pytest.mark.parametrize(
    "more",
    [
        {"choices": [{"message": {"content": "{said}"}}]},
        {"choices": [{"index": 0, "finish_reason": None, "message": {"role": "assistant", "content": "{said}"}}]},
        {"usage": {"prompt_tokens": None, "completion_tokens": 3}},
        {"usage": {"prompt_tokens": 4, "prompt_tokens_details": {"cached_tokens": None}}},
        {"usage": None, "model": None, "id": None},
        {"choices": [{"message": {"content": [{"type": "text", "text": "{said}"}]}}]},
    ],
)
def test_an_answer_is_read_whatever_an_endpoint_leaves_out(more: dict[str, Any], tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        whole = {"choices": [{"finish_reason": "stop", "message": {"content": "{said}"}}], **more}
        return 200, json.loads(json.dumps(whole).replace("{said}", f"word{number_of(body)}"))

    outcome, _ = asked_raw(tmp_path, PLAIN, answer)
    assert (outcome.measurement.status, outcome.measurement.raw) == ("ok", 1.0), outcome.measurement.reason


def test_options_of_generation_are_sent_over_the_tasks_own(tmp_path: Path) -> None:
    code = PLAIN.replace("scorer=includes()", "scorer=includes(), config=GenerateConfig(temperature=0.7, top_p=0.5)")
    keys = write_task(tmp_path, f"from inspect_ai.model import GenerateConfig\n\n\n{code}")
    generate = {
        "temperature": 0,
        "max_tokens": 9,
        "seed": 3,
        "stop_seqs": ["x"],
        "top_k": 4,
        "extra_body": {"min_p": 0.1},
    }
    it = component(tmp_path, **keys, limit=1, generate=generate)
    with raw_endpoint(lambda _: (200, {"choices": [{"message": {"content": "word0"}}]})) as (url, bodies):
        subject = ServedSubject(None, None, Endpoint(api_base=url, model="m", how="external"))
        assert measured(it, subject, tmp_path / "s").measurement.raw == 1.0
    (body,) = bodies
    wanted = {"temperature": 0, "top_p": 0.5, "max_tokens": 9, "seed": 3, "stop": ["x"], "top_k": 4, "min_p": 0.1}
    assert {name: body.get(name) for name in wanted} == wanted and body["model"] == "m"


@pytest.mark.parametrize("without", ["id", "type"])
def test_a_call_is_never_dropped_for_what_it_lacks(without: str, tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        last = body["messages"][-1]
        if last["role"] == "tool":
            return 200, {"choices": [{"message": {"content": f"It is {last['content']}."}}]}
        call = {
            "id": "c",
            "type": "function",
            "function": {"name": "shelf", "arguments": f'{{"number": {number_of(body)}}}'},
        }
        del call[without]
        return 200, {"choices": [{"finish_reason": "tool_calls", "message": {"content": None, "tool_calls": [call]}}]}

    outcome, bodies = asked_raw(tmp_path, TOOLS, answer)
    assert (outcome.measurement.raw, len(bodies)) == (1.0, 4)


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "reasoning": "Let me look."},
        {"content": "", "reasoning_content": "Let me look."},
        {"content": "<think>Let me look.</think>"},
        {"content": "<think>\nLet me look.\n</think>\n\nI look."},
        {"content": "I look.", "reasoning": "Let me look."},
    ],
)
def test_the_agents_history_is_what_it_wrote(message: dict[str, Any], tmp_path: Path) -> None:
    """Its thought under its key, and nothing put before its words."""

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        if body["messages"][-1]["role"] == "tool":
            return 200, {"choices": [{"message": {"content": "word0"}}]}
        call = {"id": "c", "type": "function", "function": {"name": "shelf", "arguments": '{"number": 0}'}}
        return 200, {"choices": [{"finish_reason": "tool_calls", "message": {**message, "tool_calls": [call]}}]}

    _, bodies = asked_raw(tmp_path, TOOLS, answer)
    (mine,) = [one for one in bodies[-1]["messages"] if one["role"] == "assistant"]
    assert mine["reasoning_content"] == "Let me look."
    assert mine.get("content") == ("I look." if "I look." in str(message["content"]) else None)


def test_what_a_parser_took_for_a_thought_is_an_answer_again(tmp_path: Path) -> None:
    """A model that does not think, behind a parser that expects a thought: the log-probs show that none was opened."""

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        said = f"word{number_of(body)}"
        logprobs = {"content": [{"token": said, "logprob": -0.1}]}
        message = {"content": None, "reasoning": said}
        return 200, {"choices": [{"finish_reason": "stop", "message": message, "logprobs": logprobs}]}

    outcome, _ = asked_raw(tmp_path, PLAIN, answer)
    assert outcome.measurement.raw == 1.0


def test_an_answer_that_is_a_thought_alone_is_counted(tmp_path: Path) -> None:
    """It may be a parser's doing: without log-probs nobody knows."""

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        said = f"word{number_of(body)}"
        message = {"content": None, "reasoning": said} if said < "word3" else {"content": said, "reasoning": "Hm."}
        return 200, {"choices": [{"finish_reason": "stop", "message": message}]}

    outcome, _ = asked_raw(tmp_path, PLAIN, answer)
    assert (outcome.measurement.raw, outcome.measurement.detail["thoughts_alone"]) == (5 / 8, 3)


def test_an_answer_that_the_server_aborted_is_none(tmp_path: Path) -> None:
    """So vLLM ends what it was writing when it is stopped."""
    outcome, _ = asked_raw(
        tmp_path, PLAIN, lambda body: (200, {"choices": [{"finish_reason": "abort", "message": {"content": "word2"}}]})
    )
    assert outcome.measurement.detail["causes"] == {"endpoint": 8} and outcome.n_open == 8


@pytest.mark.parametrize("code", [PLAIN, CRASHES])
def test_an_overflow_is_the_checkpoints_also_where_its_task_breaks_on_it(code: str, tmp_path: Path) -> None:
    it = component(tmp_path, **write_task(tmp_path, code))
    for name, troubles, value in (
        ("one", [on(2, "overflow")], 3 / 8),
        ("all", [Trouble(kind="overflow", when=lambda *_: True)], 0.0),
    ):
        with asked(troubles=troubles) as (subject, _):
            outcome = measured(it, subject, tmp_path / name)
        assert (outcome.measurement.raw, outcome.measurement.n_scored, outcome.n_open) == (value, 8, 0)
        assert rows(outcome)["w2"]["cause"] == "context"


@pytest.mark.parametrize("limit", ["time_limit", "working_limit"])
def test_time_that_a_failing_endpoint_took_is_not_the_agents(limit: str, tmp_path: Path) -> None:
    it = component(tmp_path, **write_task(tmp_path, PLAIN), **{limit: 2}, attempts=9)
    with asked(troubles=[on(2, "500")]) as (subject, _):
        outcome = measured(it, subject, tmp_path / "s")
    assert (rows(outcome)["w2"]["cause"], rows(outcome)["w2"]["value"], outcome.n_open) == ("endpoint", None, 1)
    with asked() as (subject, server):
        assert measured(it, subject, tmp_path / "s").measurement.raw == 0.5
    assert server.requests == 1


def test_time_lost_before_a_slow_answer_is_not_the_agents_either(tmp_path: Path) -> None:
    it = component(tmp_path, **write_task(tmp_path, TOOLS), limit=1, time_limit=1, attempts=9)

    def slowly(request: ChatRequest) -> ChatAnswer:
        time.sleep(0.6)
        return calling(("shelf", {"number": 7}))

    with asked(slowly) as (subject, _):
        ended = measured(it, subject, tmp_path / "slow")
    assert (rows(ended)["w0"]["limit"], rows(ended)["w0"]["value"], ended.n_open) == ("time", 0.0, 0)
    with asked(slowly, troubles=[Trouble(kind="500", when=lambda number, _: number == 1)]) as (subject, _):
        outcome = measured(it, subject, tmp_path / "failing")
    assert (rows(outcome)["w0"]["limit"], rows(outcome)["w0"]["cause"], outcome.n_open) == ("time", "endpoint", 1)


def grades(request: ChatRequest) -> ChatAnswer:
    said = str(request.messages[-1]["content"])
    return ChatAnswer(content="GRADE: C" if "GRADE" in said else "word")


@pytest.mark.parametrize("grading", [True, False])
def test_an_overflow_is_told_by_who_was_asked(grading: bool, tmp_path: Path) -> None:
    """The checkpoint in a role is a grader that failed; its own answer was none, whatever the grader says of it."""
    bad = Trouble(
        kind="overflow",
        when=lambda _, request: (
            "shelf 3?" in str(request.messages[-1]["content"])
            and ("GRADE" in str(request.messages[-1]["content"])) == grading
        ),
    )
    it = component(tmp_path, **write_task(tmp_path, GRADED), roles={"grader": {"model": "checkpoint"}})
    with asked(grades, troubles=[bad]) as (subject, _):
        outcome = measured(it, subject, tmp_path / "s")
    row = rows(outcome)["w3"]
    assert (row["cause"], row["value"]) == (("endpoint", None) if grading else ("context", 0.0))


@pytest.mark.parametrize("kind", ["500", "overflow"])
def test_a_model_of_inspects_own_providers_that_fails_leaves_the_sample_open(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-of-the-judge")
    bad = Trouble(kind=kind, when=lambda _, request: "shelf 4?" in str(request.messages[-1]["content"]))
    with asked(grades) as (subject, server), asked(grades, troubles=[bad]) as (_, judge):
        role = {"model": "openai-api/judges/m", "api_base": judge.url, "api_key_env": "JUDGE_KEY"}
        it = component(tmp_path, **write_task(tmp_path, GRADED), roles={"grader": role})
        outcome = measured(it, subject, tmp_path / "s")
        assert (rows(outcome)["w4"]["cause"], outcome.n_open, server.requests) == ("endpoint", 1, 8)
        measured(it, subject, tmp_path / "s")
    assert server.requests == 9, "it is asked again, the others are not"
