"""A run's folder, its resumption, its judge, and the command line around them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tau2_fields import fits_upstream
from tau2_online import plan, run_plan
from tau2_samples import needs_port, shared, task_value

from harness.cli import run as harness
from harness.core.chat import EndpointError
from harness.core.errors import StateError
from harness.core.tau2.upstream import Upstream
from harness.engines.scripted.chat import ScriptedChat
from harness.engines.scripted.server import ScriptedServer, serving
from harness.reward_models.tau2.result import Result
from harness.tasks.tau2.recording import read_recording
from harness.tasks.tau2.sources import open_domain
from harness.tau2.plan import Plan
from harness.tau2.recordings.convert import convert
from harness.tau2.recordings.rescore import NlJudge, Rescored, prepare, rescore
from harness.tau2.runs.folder import open_run_folder
from harness.tau2.simulate.reference_play import ReferencePlay

pytestmark = needs_port
# A job in the background ignores Ctrl-C, and so would what it starts.
INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
HARNESS = [sys.executable, "-c", f"{INTERRUPTIBLE}; from harness.cli import main; main()"]


def lines(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """What a run has, without times, by task and trial; nothing may be there twice."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for text in (folder / "simulations.jsonl").read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        key = (line["task_id"], line["trial"])
        assert key not in found, f"{key} is there twice"
        found[key] = {name: value for name, value in line.items() if name not in ("start_time", "duration")}
    return found


@pytest.fixture(scope="module")
def endpoint() -> Iterator[ScriptedServer]:
    """A scripted model that knows airline's tasks and takes its time."""
    with serving(ScriptedServer(ReferencePlay(open_domain("airline").tasks("base")), latency_s=0.03)) as server:
        yield server


def command(server: ScriptedServer, out: Path, *more: str) -> list[str]:
    model = ["--agent-llm", "hosted_vllm/a", "--user-llm", "hosted_vllm/u"]
    where = ["--agent-api-base", server.url, "--user-api-base", server.url, "--attempts", "2"]
    return ["tau2", "run", "-d", "airline", *model, *where, "--num-tasks", "12", "--out", str(out), *more]


@pytest.fixture(scope="module")
def undisturbed(endpoint: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "whole"
    assert harness(command(endpoint, out, "--num-trials", "2", "--quiet")) == 0
    assert len(lines(out)) == 24
    return out


def test_kill_9_again_and_again_ends_as_if_nothing_had_happened(
    endpoint: ScriptedServer, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    arguments = [*HARNESS, *command(endpoint, out, "--num-trials", "2", "--max-concurrency", "4", "--quiet")]
    dice = random.Random(1)
    path = out / "simulations.jsonl"
    for at_least in (1, 6, 12):
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < at_least):
            time.sleep(0.005)
        time.sleep(dice.random() * 0.02)
        assert process.poll() is None, "it must be killed while it runs for this to mean something"
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with path.open("ab") as torn:
        torn.write(b'{"id": "half a li')
    before = endpoint.requests
    done = path.read_bytes().count(b"\n")
    finished = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stderr
    assert lines(out) == lines(undisturbed)
    assert f"{24 - done} simulation(s) appended" in finished.stdout and f"{done} were there before" in finished.stdout
    assert endpoint.requests > before
    calls = endpoint.requests
    assert harness(command(endpoint, out, "--num-trials", "2", "--quiet")) == 0
    assert endpoint.requests == calls, "a finished run asks nobody"


def test_ctrl_c_stops_at_once_and_prints_the_line_that_resumes(endpoint: ScriptedServer, tmp_path: Path) -> None:
    out = tmp_path / "interrupted"
    arguments = command(endpoint, out, "--num-trials", "40", "--max-concurrency", "4")
    process = subprocess.Popen([*HARNESS, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    path = out / "simulations.jsonl"
    while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < 3):
        time.sleep(0.01)
    before = path.read_bytes().count(b"\n")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert path.read_bytes().count(b"\n") < before + 48, "of 480 simulations, no more than a few after it"
    assert err.rstrip().endswith("--num-trials 40 --max-concurrency 4") and "Traceback" not in err
    assert path.read_bytes().endswith(b"\n") and len(lines(out)) >= 3


def test_more_trials_extend_a_run(endpoint: ScriptedServer, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "grown"
    assert harness(command(endpoint, out, "--quiet")) == 0
    assert len(lines(out)) == 12
    assert harness(command(endpoint, out, "--num-trials", "2", "--quiet")) == 0
    assert lines(out) == lines(undisturbed)


def test_the_folder_of_a_run_is_a_recording(undisturbed: Path) -> None:
    assert read_recording(undisturbed).simulations == read_recording(undisturbed / "simulations.jsonl").simulations


def test_the_recording_is_read_back_and_judged_the_same(undisturbed: Path) -> None:
    recording = read_recording(undisturbed / "simulations.jsonl")
    assert recording.domain == "airline" and not recording.solo and len(recording.simulations) == 24
    again = list(rescore(prepare(recording.path, domain=None, data=None, tasks_file=None), nl_judge=NlJudge.NONE))
    assert all(item.verdict.reward == item.recorded.reward == 1.0 and item.n_differs == 0 for item in again)
    assert all(dict(item.recorded.components).items() <= dict(item.verdict.components).items() for item in again)


def test_a_converted_run_says_who_played_and_has_tasks_and_checks_whole(undisturbed: Path, tmp_path: Path) -> None:
    document = json.loads(convert(undisturbed, tmp_path / "r.json").content)
    fits_upstream(document)
    info = document["info"]
    told = json.loads((undisturbed / "prompts.json").read_text())
    assert info["agent_info"] == {
        "implementation": "llm_agent",
        "llm": "hosted_vllm/a",
        "llm_args": {"temperature": 0.0},
    }
    assert info["user_info"]["llm"] == "hosted_vllm/u" and info["user_info"]["llm_args"] == {"temperature": 0.0}
    assert (info["num_trials"], info["seed"], info["max_steps"], info["max_errors"]) == (2, 300, 200, 10)
    assert info["environment_info"] == {"domain_name": "airline", "policy": told["policy"]}
    assert info["user_info"]["global_simulation_guidelines"] == told["guidelines"]
    written = {task.id: task.written for task in open_domain("airline").tasks()}
    assert all(task == written[task["id"]] and "description" in task for task in document["tasks"])
    for one in document["simulations"]:
        reward = one["reward_info"]
        assert [message["turn_idx"] for message in one["messages"]] == list(range(len(one["messages"])))
        assert reward["db_check"] == {"db_match": True, "db_reward": 1.0}
        assert set(reward["reward_breakdown"]) <= set(reward["reward_basis"])
        actions = written[one["task_id"]]["evaluation_criteria"]["actions"]  # type: ignore[index]
        checks = reward.get("action_checks", [])
        assert [check["action"]["name"] for check in checks] == [action["name"] for action in actions]
        assert one["start_time"] <= one["end_time"] and not {"usage", "fault", "run_info"} & set(one)


def test_lines_alone_say_who_played(undisturbed: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.jsonl"
    alone.write_bytes((undisturbed / "simulations.jsonl").read_bytes())
    info = json.loads(convert(alone, tmp_path / "r.json").content)["info"]
    assert info["agent_info"]["llm"] == "hosted_vllm/a" and info["environment_info"]["policy"] == ""


def test_an_address_among_the_arguments_is_one_and_not_a_setting(endpoint: ScriptedServer, tmp_path: Path) -> None:
    where = json.dumps({"temperature": 0.0, "api_base": endpoint.url})
    command = ["tau2", "run", "-d", "airline", "--num-tasks", "2", "--out", str(tmp_path), "--quiet"]
    for side in ("agent", "user"):
        command += [f"--{side}-llm", "hosted_vllm/m", f"--{side}-llm-args", where]
    assert harness(command) == 0 and len(lines(tmp_path)) == 2
    assert "127.0.0.1" not in (tmp_path / "run.json").read_text()


def test_what_is_printed(endpoint: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert harness(command(endpoint, tmp_path / "o", "--num-trials", "2")) == 0
    printed = capsys.readouterr()
    assert "reward         1.0000  0.0000  24\n" in printed.out
    assert "pass^2" in printed.out and "ends: user_stop 24" in printed.out and "prompt tokens" in printed.out
    assert printed.err.startswith("24 simulation(s), 64 at a time")


def test_a_second_run_into_the_folder_is_refused(endpoint: ScriptedServer, tmp_path: Path, capsys: Any) -> None:
    with open_run_folder(tmp_path, identity={}):
        assert harness(command(endpoint, tmp_path)) == 7
    assert f"is in use by another run (process {os.getpid()})" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (("--seed", "301"), "seed 300, here 301"),
        (("--max-steps", "9"), "max_steps 200, here 9"),
        (("--agent-llm", "hosted_vllm/other"), "agent "),
        (("--agent-llm-args", '{"temperature": 1.0}'), "agent "),
        (("--num-tasks", "3"), "n_tasks 12, here 3"),
        (("--upstream-exclusions",), 'upstream [], here ["exclusions"]'),
    ],
)
def test_other_settings_are_refused(
    endpoint: ScriptedServer, undisturbed: Path, capsys: Any, option: tuple[str, ...], named: str
) -> None:
    before = (undisturbed / "simulations.jsonl").read_bytes()
    assert harness(command(endpoint, undisturbed, *option)) == 7
    err = capsys.readouterr().err
    assert named in err and "use another folder" in err and err.count("\n") == 1
    assert (undisturbed / "simulations.jsonl").read_bytes() == before


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "simulations.jsonl").write_text("{}\n")
    with pytest.raises(StateError, match=r"no run\.json"), open_run_folder(tmp_path, identity={}):
        pass
    (tmp_path / "run.json").write_text('{"schema": "harness.run/1"}')
    with pytest.raises(StateError, match="holds something else"), open_run_folder(tmp_path, identity={}):
        pass
    (tmp_path / "run.json").write_text('{"schema": "harness.tau2_run/1", "settings": {}}')
    with pytest.raises(StateError, match="line 1 is no simulation of a run"), open_run_folder(tmp_path, identity={}):
        pass


def wrong_task(**changes: Any) -> Callable[[Path], list[str]]:
    def write(folder: Path) -> list[str]:
        path = folder / "tasks.json"
        path.write_text(json.dumps([{**task_value(), **changes}]))
        return ["-d", "mock", "--tasks-file", str(path)]

    return write


def twice(folder: Path) -> list[str]:
    path = folder / "tasks.json"
    path.write_text(json.dumps([task_value(), task_value()]))
    return ["-d", "mock", "--tasks-file", str(path)]


CRITERIA = task_value()["evaluation_criteria"]
START = {
    "initialization_actions": [{"env_type": "assistant", "func_name": "update_task_status", "arguments": {"x": 1}}]
}
BEFORE: dict[str, tuple[Callable[[Path], list[str]], int, str]] = {
    "unknown domain": (lambda _: ["-d", "bank"], 4, "unknown tau2 domain 'bank'"),
    "unknown task": (lambda _: ["-d", "mock", "--task-ids", "x"], 4, "unknown task 'x'; domain mock has create_task_1"),
    "unknown split": (lambda _: ["-d", "mock", "--split", "x"], 4, "has no split 'x'"),
    "unknown reward type": (
        wrong_task(evaluation_criteria={**CRITERIA, "reward_basis": ["VIBES"]}), 4, "unknown reward type 'VIBES'",
    ),
    "a tool that does not exist": (
        wrong_task(evaluation_criteria={"actions": [{"action_id": "a", "name": "fly", "arguments": {}}]}), 4, "'fly', which does not exist",
    ),
    "a task id twice": (twice, 4, "is there twice"),
    "a user's tool that does not exist": (wrong_task(user_tools=["fly"]), 4, "user_tools name 'fly'"),
    "a start that cannot be made": (wrong_task(initial_state=START), 4, "its initial state cannot be made"),
    "no trials": (lambda _: ["-d", "mock", "--num-trials", "0"], 3, "--num-trials: Input should be greater than or equal to 1, not 0"),
    "no tasks": (lambda _: ["-d", "mock", "--num-tasks", "0"], 3, "--num-tasks: Input should be greater than or equal to 1, not 0"),
    "bad arguments": (lambda _: ["-d", "mock", "--agent-llm-args", "{"], 3, "is not valid JSON"),
    "a key in the arguments": (
        lambda _: ["-d", "mock", "--agent-llm-args", '{"api_key": "sk-1"}'],
        3,
        "--agent-llm-args: holds an api_key",
    ),
    "no key": (lambda _: ["-d", "mock", "--agent-api-key-env", "NOT_THERE"], 3, "NOT_THERE is not set"),
    "solo and a user": (lambda _: ["-d", "mock", "--solo"], 3, "--solo has no user, so leave --user-llm out"),
    "a model of nobody": (lambda _: ["-d", "mock", "--agent-llm", "foo"], 3, "does not know whose model 'foo' is; write PROVIDER/NAME"),
    "transport": (lambda _: ["-d", "mock", "--transport", "pigeon"], 3, "--transport: Input should be 'auto', 'direct' or 'litellm', not 'pigeon'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BEFORE)
def test_what_is_wrong_is_said_before_any_model_is_called(
    endpoint: ScriptedServer, tmp_path: Path, capsys: Any, name: str
) -> None:
    arguments, code, message = BEFORE[name]
    before = endpoint.requests
    base = command(endpoint, tmp_path / "out")
    base = [*base[:2], *base[4:]]
    base.remove("--num-tasks"), base.remove("12")
    assert harness([*base, *arguments(tmp_path)]) == code
    err = capsys.readouterr().err
    assert message in err and err.startswith("harness: error: ") and err.count("\n") == 1
    assert endpoint.requests == before and not (tmp_path / "out" / "simulations.jsonl").exists()


def test_solo_is_refused_where_there_is_none_or_no_ticket(
    endpoint: ScriptedServer, tmp_path: Path, capsys: Any
) -> None:
    solo = [
        "tau2",
        "run",
        "--agent-llm",
        "hosted_vllm/a",
        "--agent-api-base",
        endpoint.url,
        "--solo",
        "--out",
        str(tmp_path),
    ]
    assert harness([*solo, "-d", "airline"]) == 4
    assert "airline has no solo mode" in capsys.readouterr().err
    without = next(task.id for task in open_domain("mock").tasks() if task.ticket is None)
    assert harness([*solo, "-d", "mock", "--task-ids", without]) == 4
    assert "is not for --solo: it has no ticket" in capsys.readouterr().err


def test_solo_from_the_command_line(tmp_path: Path, capsys: Any) -> None:
    unique = ReferencePlay(open_domain("telecom").tasks()).recognisable(solo=True)[:6]
    with serving(ScriptedServer(ReferencePlay(unique))) as server:
        where = ["--agent-llm", "hosted_vllm/a", "--agent-api-base", server.url, "--out", str(tmp_path)]
        ids = [part for task in unique for part in ("--task-ids", task.id)]
        assert harness(["tau2", "run", "-d", "telecom", "--split", "full", "--solo", *where, *ids, "--quiet"]) == 0
    assert "agent_stop" in capsys.readouterr().out and read_recording(tmp_path / "simulations.jsonl").solo


NL_TASK = {"nl_assertions": ["The agent is polite."], "reward_basis": ["DB", "NL_ASSERTION"]}


def nl_plan(tmp_path: Path) -> Plan:
    path = tmp_path / "nl.json"
    path.write_text(json.dumps([task_value(**NL_TASK), task_value("plain")]))
    return plan("mock", tasks_file=path)


def verdict(met: bool) -> str:
    return json.dumps(
        {"results": [{"expectedOutcome": "The agent is polite.", "metExpectation": met, "reasoning": "r"}]}
    )


@pytest.mark.parametrize("met", [True, False])
def test_the_judge_decides(tmp_path: Path, met: bool) -> None:
    made = nl_plan(tmp_path)
    judge = ScriptedChat([verdict(met)], name="j")
    report = run_plan(made, tmp_path / "o", ScriptedChat(ReferencePlay(made.tasks)), judge=judge)
    gated, plain = report.results
    assert gated.verdict.reward == float(met) and gated.judge.completion_tokens > 0
    assert plain.verdict.reward == 1.0 and len(judge.requests) == 1
    line = lines(tmp_path / "o")["create_task_1", 0]
    assert line["reward_info"]["nl_assertions"] == [
        {"nl_assertion": "The agent is polite.", "met": met, "justification": "r"}
    ]


@pytest.mark.parametrize("replies", [["Surely."] * 3, [EndpointError("gone")], [verdict(True)[:-3]] * 3])
def test_a_judge_that_failed_leaves_the_transcript_for_the_next_one(tmp_path: Path, replies: list[Any]) -> None:
    made = nl_plan(tmp_path)
    model = ScriptedChat(ReferencePlay(made.tasks))
    first = run_plan(made, tmp_path / "o", model, judge=ScriptedChat(replies, name="j"))
    gated = first.results[0]
    assert gated.verdict.reward is None and (gated.reason or "").startswith("judge: ")
    asked = len(model.requests)
    again = run_plan(made, tmp_path / "o", model, judge=ScriptedChat([verdict(True)], name="j"))
    assert [outcome.verdict.reward for outcome in again.results] == [1.0, 1.0] and again.n_new == 1
    assert len(model.requests) == asked, "the conversation is not held again"
    assert len(lines(tmp_path / "o")) == 2


def test_without_a_judge_the_reward_stays_open_until_there_is_one(tmp_path: Path) -> None:
    made = nl_plan(tmp_path)
    assert made.n_judged_by_model == 1
    model = ScriptedChat(ReferencePlay(made.tasks))
    for _ in range(2):
        report = run_plan(made, tmp_path / "o", model)
        assert report.results[0].verdict.reason == "needs a judge"
        assert len((tmp_path / "o" / "unfinished.jsonl").read_text().splitlines()) == 1
    asked = len(model.requests)
    judge = ScriptedChat([verdict(True)], name="j")
    assert run_plan(made, tmp_path / "o", model, judge=judge).results[0].verdict.reward == 1.0
    assert len(model.requests) == asked
    with pytest.raises(StateError, match="nl_judge"):
        run_plan(made, tmp_path / "o", model)


def test_a_task_file_and_its_revision(tmp_path: Path) -> None:
    one = nl_plan(tmp_path).identity()
    assert one["n_tasks"] == 2 and one["source"].startswith("inspect-evals")
    path = shared("tau2_tasks", "mock", "tasks.json")
    assert plan("mock", tasks_file=path).identity()["tasks"] != plan("mock").identity()["tasks"]


@pytest.mark.parametrize(("named", "shown"), [(None, 2), (1, 1), (0, 0)])
def test_a_task_says_which_tools_its_user_has(tmp_path: Path, named: int | None, shown: int) -> None:
    tools = None if named is None else list(open_domain("mock").user_tools)[:named]
    path = tmp_path / "t.json"
    path.write_text(json.dumps([{**task_value(), "user_tools": tools}]))
    made = plan("mock", tasks_file=path)
    model = ScriptedChat(ReferencePlay(made.tasks))
    assert run_plan(made, tmp_path / "o", model).results[0].verdict.reward == 1.0
    asked = [one for one in model.requests if "<scenario>" in str(one.messages[0]["content"])]
    assert asked and all(len(one.tools) == shown for one in asked)
    told = str(asked[0].messages[0]["content"])
    with_tools = plan("mock").prompts.guidelines
    assert told.startswith(with_tools) is bool(shown), "whoever has no tools is not told how to use some"


def test_cancelling_leaves_the_file_whole(tmp_path: Path) -> None:
    from harness.tau2.runs.run import Models, run

    made = plan("airline", trials=20)
    model = ScriptedChat(ReferencePlay(made.tasks), latency_s=0.001)

    async def interrupted() -> None:
        with open_run_folder(tmp_path, identity=made.identity()) as folder:
            task = asyncio.create_task(run(made, Models(agent=model, user=model), folder))
            while not folder.path.exists() or folder.path.stat().st_size < 200_000:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(interrupted())
    assert model.closed and (tmp_path / "simulations.jsonl").read_bytes().endswith(b"\n")
    kept = len(lines(tmp_path))
    assert 0 < kept < 1000
    smaller = dataclasses.replace(made, trials=1)
    report = run_plan(smaller, tmp_path, model)
    assert {outcome.verdict.reward for outcome in report.results} == {1.0}


def silent_run(tmp_path: Path, task_id: str, **settings: Any) -> tuple[Result, Path]:
    """A user who stops at once, on a task that asserts something about `task_id`, which its reference actions make."""
    path = tmp_path / "t.json"
    check = {
        "env_type": "assistant",
        "func_name": "assert_task_status",
        "arguments": {"task_id": task_id, "expected_status": "pending"},
    }
    path.write_text(json.dumps([task_value(env_assertions=[check], reward_basis=["ENV_ASSERTION"])]))
    made = plan("mock", tasks_file=path, **settings)
    report = run_plan(made, tmp_path / "o", ScriptedChat(lambda _: "###STOP###"))
    return report.results[0], tmp_path / "o"


def rescored(path: Path, **settings: Any) -> Rescored:
    opened = prepare(path, domain=None, data=None, tasks_file=None, **settings)
    return next(rescore(opened, nl_judge=NlJudge.NONE))


def test_an_end_that_cannot_be_judged_is_the_agents_zero_in_a_run_and_in_rescore(tmp_path: Path) -> None:
    outcome, folder = silent_run(tmp_path, "task_2")
    assert outcome.verdict.reward == 0.0 and "cannot be judged: ValueError" in (outcome.verdict.reason or "")
    again = rescored(folder / "simulations.jsonl")
    assert again.verdict == dataclasses.replace(outcome.verdict) and again.fault == outcome.fault
    assert outcome.fault is not None and outcome.fault.rule == "stop_before_agent"
    theirs = rescored(folder / "simulations.jsonl", upstream=Upstream(ends=True))
    assert theirs.verdict.reward is None


def test_upstreams_way_with_such_an_end_is_no_reward(tmp_path: Path) -> None:
    outcome, folder = silent_run(tmp_path, "task_2", upstream=Upstream(ends=True))
    assert outcome.verdict.reward is None and not (folder / "simulations.jsonl").exists()
    assert rescored(folder / "unfinished.jsonl", upstream=Upstream(ends=True)).verdict.reward is None


def test_an_assertion_that_fails_after_the_reference_actions_too_is_the_tasks(tmp_path: Path) -> None:
    outcome, folder = silent_run(tmp_path, "task_9")
    assert outcome.verdict.reward is None and "task_9 not found" in (outcome.verdict.reason or "")
    assert outcome.fault is not None and outcome.fault.cause == "infrastructure"
    assert rescored(folder / "unfinished.jsonl").verdict.reward is None
