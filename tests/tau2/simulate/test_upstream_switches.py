"""Each deliberate deviation from upstream can be turned back, one by one: what is done then, and that it is not otherwise."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from tau2_online import plan, run_plan, simulate
from tau2_samples import calling as recorded_call
from tau2_samples import needs_port, recorded, results, task_value

from harness.cli import run as harness
from harness.core.chat import ChatAnswer, ChatCall, ChatRequest
from harness.core.errors import DataError, SpecError
from harness.core.tau2.message import Message, ToolCall
from harness.core.tau2.upstream import ALL, MEANING, OURS, Upstream, upstream_of
from harness.engines.scripted.chat import ScriptedChat, calling
from harness.tasks.tau2 import upstream as package
from harness.tasks.tau2.sources import open_domain
from harness.tau2.judging.nl_judge import parse_as_upstream, question
from harness.tau2.recordings.rescore import NlJudge, Rescored, prepare, rescore
from harness.tau2.simulate.reference_play import ReferencePlay

pytestmark = needs_port


def test_every_switch_has_a_name_and_a_meaning() -> None:
    assert {one.name.replace("_", "-") for one in fields(Upstream)} == set(MEANING)
    assert upstream_of(["ends,replay", "strict"]).names() == ["ends", "replay", "strict"]
    assert upstream_of([ALL]).names() == list(MEANING) and upstream_of([]) == OURS
    with pytest.raises(SpecError, match="'judging' is unknown; it takes all or instructions"):
        upstream_of(["ends", "judging"])


@pytest.mark.parametrize("command", ["run", "rescore"])
def test_the_list_is_printed_whatever_else_is_missing(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert harness(["tau2", command, "--upstream", "list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(MEANING)


@pytest.mark.parametrize("name", [name for name in MEANING if name != "instructions"])
def test_a_switch_is_part_of_a_runs_identity(name: str) -> None:
    assert plan("mock", "create_task_1").identity()["upstream"] == []
    assert plan("mock", "create_task_1", upstream=upstream_of([name])).identity()["upstream"] == [name]


def test_instructions_are_upstreams_or_are_refused() -> None:
    theirs = Upstream(instructions=True)
    assert plan("mock", upstream=theirs, agent={"instructions": "Theirs."}).prompts.agent_instructions == "Theirs."
    if package.is_installed():
        assert "customer service agent" in plan("mock", upstream=theirs).prompts.agent_instructions
    else:
        with pytest.raises(SpecError, match=r"`upstream` instructions: .* not installed.*`agent.instructions`"):
            plan("mock", upstream=theirs)


def test_exclusions_are_the_option_of_that_name(tmp_path: Path) -> None:
    made = plan("mock", "create_task_1", upstream=Upstream(exclusions=True))
    model = ScriptedChat(lambda _: "")
    (outcome,) = run_plan(made, tmp_path, model).results
    assert outcome.excluded and len(model.requests) == 4


def answered(arguments: str, upstream: Upstream, tmp_path: Path, **answer: Any) -> tuple[str, str | None]:
    """How a simulation ends whose agent calls update_task_status with these arguments."""

    def script(request: ChatRequest) -> ChatAnswer:
        said = [message for message in request.messages if message["role"] == "assistant"]
        if "<scenario>" in str(request.messages[0]["content"]):
            return ChatAnswer(content="###STOP###" if said else "Hello.")
        call = ChatCall(id="c", name="update_task_status", arguments=arguments)
        if len(said) == 1:
            return ChatAnswer(**{"tool_calls": (call,), **answer})
        return ChatAnswer(content="Done.")

    (outcome,) = run_plan(plan("mock", "create_task_1", upstream=upstream), tmp_path, ScriptedChat(script)).results
    return outcome.termination, outcome.reason


NESTED = '{"task_id": "task_1", "status": ' + "[" * 300 + "]" * 300 + "}"
NUMBERS = '{"task_id": "task_1", "status": NaN, "x": 1e999}'


def test_numbers(tmp_path: Path) -> None:
    assert answered(NUMBERS, OURS, tmp_path / "a")[0] == "agent_error"
    assert answered(NUMBERS, Upstream(bounds=True), tmp_path / "b")[0] == "agent_error"
    assert answered(NUMBERS, Upstream(numbers=True), tmp_path / "c")[0] == "user_stop"
    again = prepare(tmp_path / "c" / "simulations.jsonl", domain=None, data=None, tasks_file=None)
    assert next(rescore(again, nl_judge=NlJudge.NONE)).verdict.reward == 0.0, "a line with them is read back"


def test_bounds(tmp_path: Path) -> None:
    assert answered(NESTED, OURS, tmp_path / "a")[0] == "agent_error"
    assert answered(NESTED, Upstream(bounds=True), tmp_path / "b")[0] == "user_stop"
    long = {"tool_calls": (), "content": "x" * 1_000_001}
    assert "1,000,001 characters" in (answered("{}", OURS, tmp_path / "c", **long)[1] or "")
    assert answered("{}", Upstream(bounds=True), tmp_path / "d", **long)[0] == "user_stop"


def test_solo_stop(tmp_path: Path) -> None:
    call = ChatCall(id="c", name="get_users", arguments="{}")
    last = ChatAnswer(content="###STOP###", tool_calls=(call,))
    ticket = next(task.id for task in plan("mock", solo=True).tasks)
    ours, theirs = (
        run_plan(plan("mock", ticket, solo=True, upstream=one), tmp_path / str(one.solo_stop), ScriptedChat([last]))
        for one in (OURS, Upstream(solo_stop=True))
    )
    assert [report.results[0].termination for report in (ours, theirs)] == ["agent_stop", "agent_stop"]
    assert ours.results[0].verdict.reward == 0.0
    assert theirs.results[0].verdict.reward is None and "has no answer" in (theirs.results[0].reason or "") + str(
        theirs.results[0].verdict.reason
    )


def test_call_names(tmp_path: Path) -> None:
    _, agents, _ = simulate([calling(("get_users", {})), "Bye."], ["Hello.", "###STOP###"])
    sent = [
        call for request in agents.requests for message in request.messages for call in message.get("tool_calls", ())
    ]
    assert sent and all("name" not in call for call in sent)
    made = plan("mock", "create_task_1", upstream=Upstream(call_names=True))
    model = ScriptedChat(ReferencePlay(made.tasks))
    run_plan(made, tmp_path, model)
    sent = [
        call for request in model.requests for message in request.messages for call in message.get("tool_calls", ())
    ]
    assert sent and all(call["name"] == call["function"]["name"] for call in sent)


TRANSCRIPT = (
    Message(role="user", content="Hi."),
    Message(role="assistant", tool_calls=(ToolCall(name="get_users", arguments={"a": 1}),)),
)


def test_judge_view() -> None:
    assert "get_users" in question(["Polite."], TRANSCRIPT)
    theirs = json.loads(question(["Polite."], TRANSCRIPT, upstream=Upstream(judge_view=True)))
    assert theirs["transcript"] == "user: Hi.\nassistant: None"


NL = {"nl_assertions": ["The agent is polite."], "reward_basis": ["DB", "NL_ASSERTION"]}


def judged_run(tmp_path: Path, reply: str, upstream: Upstream, **criteria: Any) -> tuple[float | None, int]:
    path = tmp_path / "nl.json"
    path.write_text(json.dumps([task_value(**{**NL, **criteria})]))
    made = plan("mock", tasks_file=path, upstream=upstream)
    judges = ScriptedChat(lambda _: reply, name="j")
    folder = tmp_path / "-".join([*upstream.names(), "o"])
    (outcome,) = run_plan(made, folder, ScriptedChat(ReferencePlay(made.tasks)), judge=judges).results
    return outcome.verdict.reward, len(judges.requests)


def test_judge_answers(tmp_path: Path) -> None:
    theirs = Upstream(judge_answers=True)
    assert judged_run(tmp_path, '{"results": []}', OURS) == (None, 3)
    assert judged_run(tmp_path, '{"results": []}', theirs) == (1.0, 1), "upstream counts an empty list as met"
    said = {"expectedOutcome": "Something else.", "metExpectation": False, "reasoning": "r"}
    assert parse_as_upstream(json.dumps({"results": [said]}), ["Polite."]) == ((False, "r"),)
    (tmp_path / "fenced").mkdir()
    assert judged_run(tmp_path / "fenced", "```json\n{}\n```", theirs) == (None, 1)


def test_judge_gates(tmp_path: Path) -> None:
    met = json.dumps(
        {"results": [{"expectedOutcome": NL["nl_assertions"][0], "metExpectation": True, "reasoning": ""}]}
    )
    assert judged_run(tmp_path, met, OURS, reward_basis=["DB"]) == (1.0, 1)
    assert judged_run(tmp_path, met, Upstream(judge_gates=True), reward_basis=["DB"]) == (1.0, 0)
    (tmp_path / "gating").mkdir()
    assert judged_run(tmp_path / "gating", met, Upstream(judge_gates=True)) == (1.0, 1)


def test_judge_required(tmp_path: Path) -> None:
    path = tmp_path / "nl.json"
    path.write_text(json.dumps([task_value(**NL)]))
    made = plan("mock", tasks_file=path, upstream=Upstream(judge_required=True))
    model = ScriptedChat(ReferencePlay(made.tasks))
    with pytest.raises(SpecError, match=r"1 task.* name a judge with `nl_judge`"):
        run_plan(made, tmp_path / "o", model)
    assert not model.requests
    file = tmp_path / "r.json"
    file.write_text(json.dumps({**results(recorded()), "tasks": [task_value(**NL)]}))
    assert rescored(file)[0].verdict.reason == "needs a judge"
    with pytest.raises(DataError, match="needs a judge"):
        rescored(file, Upstream(judge_required=True))


def rescored(path: Path, upstream: Upstream = OURS) -> list[Rescored]:
    opened = prepare(path, domain=None, data=None, tasks_file=None, upstream=upstream)
    return list(rescore(opened, nl_judge=NlJudge.NONE))


def test_replay_and_strict(tmp_path: Path) -> None:
    made = recorded(id="other")
    made["messages"][3]["content"] = '{"task_id": "task_77"}'
    path = tmp_path / "r.json"
    path.write_text(json.dumps(results(made, recorded_call("get_users", {}, id="good"))))
    first, second = rescored(path)
    assert first.verdict.reward == 1.0 and first.n_differs == 1
    first, second = rescored(path, Upstream(replay=True))
    assert first.verdict.reward is None and "answer otherwise" in (first.verdict.reason or "")
    assert second.verdict.reward is not None
    with pytest.raises(DataError, match="other cannot be judged: 1 replayed"):
        rescored(path, Upstream(replay=True, strict=True))


def test_telecom_db() -> None:
    ours, theirs = open_domain("telecom"), open_domain("telecom", upstream=Upstream(telecom_db=True))
    task = ours.tasks("small")[0]
    assert ours.end_state(task, []).database_matches is None
    assert theirs.end_state(task, []).database_matches is False
    assert task.evaluation_criteria is not None and "DB" not in task.evaluation_criteria.reward_basis


@pytest.mark.parametrize(
    ("expression", "value", "why"),
    [("2**20000//2**19999", "2.0", "too large"), (" " * 2_500 + "1", "1.0", "longer than")],
)
def test_calculate(expression: str, value: str, why: str) -> None:
    call = ToolCall(name="calculate", arguments={"expression": expression})
    assert why in open_domain("airline").environment().call(call).content
    assert open_domain("airline", upstream=Upstream(calculate=True)).environment().call(call).content == value


def test_rescore_from_the_command_line_says_what_it_did_as_upstream(tmp_path: Path) -> None:
    path, out = tmp_path / "r.json", tmp_path / "out.jsonl"
    path.write_text(json.dumps(results(recorded())))
    assert harness(["tau2", "rescore", str(path), "--out", str(out), "--upstream", "ends,replay"]) == 8
    (line,) = map(json.loads, out.read_text().splitlines())
    assert line["upstream"] == ["ends", "replay"] and line["reward"] is None
    assert harness(["tau2", "rescore", str(path), "--out", str(out)]) == 0
    (line,) = map(json.loads, out.read_text().splitlines())
    assert "upstream" not in line and line["reward"] == 1.0
