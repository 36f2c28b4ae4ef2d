"""`harness tau2 view`: a list, one simulation with its verdict, and nothing that a terminal would execute."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from run_folders import Values, write_run
from tau2_samples import needs_port, recorded, results, simulation

import harness
from harness import read_feed
from harness.cli import run
from harness.cli.tau2.transcript import FULL, SHORT, transcript, verdict
from harness.cli.tau2.view import WIDE, list_simulations
from harness.cli.visible import cut, visible, visible_lines
from harness.core.errors import DataError
from harness.core.tau2.fault import Fault
from harness.core.tau2.message import Message, ToolCall
from harness.core.tau2.task import Task
from harness.tau2.recordings.read import open_recording

pytestmark = needs_port
View = Callable[..., tuple[int, str, str]]
EVIL = "\u001b[2J\u001b]0;owned\u0007[bold]x[/bold]\u202e\x9b31m"


@pytest.fixture
def view(capsys: pytest.CaptureFixture[str]) -> View:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = run(["tau2", "view", *map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def write(tmp_path: Path, *simulations: Any, **more: Any) -> Path:
    path = tmp_path / "r.json"
    path.write_text(json.dumps(results(*simulations, **more)))
    return path


def odd() -> dict[str, Any]:
    """A failed simulation with a user's call, an error, an empty message and control characters everywhere."""
    call = {"id": "u", "name": f"dismiss{EVIL}", "arguments": {EVIL: EVIL}, "requestor": "user"}
    messages = [
        {"role": "assistant", "content": f"Hi!\nHow are you?{EVIL}"},
        {"role": "user", "tool_calls": [call]},
        {"role": "tool", "id": "u", "content": f"Error: no such tool\r\n{EVIL}", "requestor": "user", "error": True},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "x" * 5_000},
    ]
    return recorded(id=f"odd{EVIL}", trial=1, messages=messages, reward_info={"reward": 0.0})


def test_without_a_task_the_simulations_are_listed(tmp_path: Path, view: View) -> None:
    code, out, err = view(write(tmp_path, recorded(trial=0), odd()))
    assert code == 0 and not err
    head, first, second = out.splitlines()
    assert head.split() == ["task", "trial", "messages", "recorded", "reward", "ended", "by", "fault", "id"]
    assert first.split() == ["create_task_1", "0", "5", "-", "1", "user_stop", "good"]
    assert "user: the user's message is empty" in second and "\u001b" not in out


def test_a_simulation_is_shown_turn_by_turn_with_its_verdict(tmp_path: Path, view: View) -> None:
    code, out, err = view(write(tmp_path, recorded(trial=0), odd()), "--task", "create_task_1", "--trial", 0)
    assert code == 0 and not err
    for line in (
        "reward          1",
        "  DB            1 gates",
        "  COMMUNICATE   - gates",
        "  ACTION        1",
        "  2 agent",
        '        calls create_task {"user_id": "user_1", "title": "Important Meeting"}',
        "          3 answer: {}",
        "    Done.",
    ):
        assert line in [found.rstrip() for found in out.splitlines()], (line, out)
    assert "fault" not in out


def test_a_fault_is_marked_at_its_turn_and_what_is_long_is_cut(tmp_path: Path, view: View) -> None:
    path = write(tmp_path, recorded(trial=0), odd())
    code, out, _ = view(path, "-t", "create_task_1", "--trial", 1)
    assert code == 0
    assert "fault           user (empty_message, turn 3)" in out
    assert "    ^ turn 3: user at fault: the user's message is empty" in out and "    (empty)" in out
    assert "        user calls dismiss" in out and "error to the user: Error: no such tool" in out
    assert (
        "(1,000 more characters; --full shows them)" in out
        and "--full" not in view(path, "--id", odd()["id"], "--full")[1]
    )


def test_control_characters_are_seen_and_not_executed(tmp_path: Path, view: View) -> None:
    for arguments in ([], ["--task", "create_task_1", "--trial", "1"]):
        _, out, err = view(write(tmp_path, recorded(trial=0), odd()), *arguments)
        assert all(character == "\n" or character.isprintable() for character in out + err)
        assert r"\x1b[2J\x1b]0;owned\x07[bold]x" in out


def test_several_simulations_are_listed_and_one_can_be_named(tmp_path: Path, view: View) -> None:
    path = write(tmp_path, recorded(trial=0), recorded(trial=0, id="again"), odd())
    code, out, err = view(path, "--task", "create_task_1")
    assert code == 0 and len(out.splitlines()) == 4 and "3 simulations; name one with --trial or --id" in err
    assert "simulation      again" in view(path, "--id", "again")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "nope"], "no simulation of task 'nope'; there are create_task_1"),
        (["--task", "create_task_1", "--trial", "7"], "no simulation of trial 7; there are 0, 1"),
        (["--id", "nope"], "no simulation of id 'nope'; there are good, odd"),
    ],
)
def test_what_is_not_there_is_one_clear_line(tmp_path: Path, view: View, arguments: list[str], message: str) -> None:
    code, _, err = view(write(tmp_path, recorded(trial=0), recorded(trial=1, id="odd")), *arguments)
    assert code == 4 and message in err and err.count("\n") == 1


def test_without_its_domain_a_recording_can_still_be_read(tmp_path: Path, view: View) -> None:
    then = {"reward": 0.0, "reward_breakdown": {"DB": 0.0}}
    code, out, err = view(write(tmp_path, recorded(reward_info=then), domain="bank"), "--id", "good")
    assert code == 0 and "only recorded verdicts are shown: unknown tau2 domain 'bank'" in err
    assert "recorded        0" in out and "  DB            0" in out and "    Done." in out


def test_what_cannot_be_read_is_listed_with_its_reason(tmp_path: Path, view: View) -> None:
    path = write(tmp_path, recorded(), recorded(id="bad", messages=["x"]))
    assert "unreadable" in view(path)[1]
    code, out, _ = view(path, "--id", "bad")
    assert code == 0 and "it cannot be judged: messages.0" in out


def failing() -> dict[str, Any]:
    """A simulation whose agent did nothing."""
    messages = [{"role": "user", "content": "Create a task."}, {"role": "assistant", "content": "Done. ###STOP###"}]
    return recorded(trial=2, id="idle", messages=messages, reward_info={"reward": 0.0})


def test_what_was_not_met_and_the_records_that_differ_are_named(tmp_path: Path, view: View) -> None:
    _, out, _ = view(write(tmp_path, recorded(trial=0), failing()), "--id", "idle")
    lines = [line.rstrip() for line in out.splitlines()]
    assert "not met" in lines and "  DB: the databases at the end equal those after the reference actions" in lines
    assert any(line.startswith("  ACTION: create_task(") for line in lines)
    at = lines.index("records that differ at the end")
    assert "tasks.task_2: nothing, expected" in lines[at + 1]
    _, out, _ = view(write(tmp_path, recorded(trial=0), failing()), "--id", "good")
    assert "not met" not in out and "records that differ" not in out


def test_of_a_run_folder_its_simulations_are_opened_or_named(tmp_path: Path, view: View) -> None:
    steps = {n: {"mock": Values(values=[1.0], kind="tau2", metric="reward", task_ids=["a"])} for n in range(2)}
    folder = write_run(tmp_path / "run", {"sft": steps})
    assert "is a run without simulations" in view(folder)[2]
    lines = []
    for vector in read_feed(folder):
        work = folder / "work" / str(vector.step)
        work.mkdir(parents=True)
        (work / "results.json").write_text(json.dumps(results(recorded(trial=0))))
        detail = {**vector.components[0].detail, "files": [f"work/{vector.step}/results.json"]}
        component = vector.components[0].model_copy(update={"detail": detail})
        lines.append(vector.model_copy(update={"components": [component]}).to_line() + "\n")
    (folder / "rewards.jsonl").write_text("".join(lines))
    code, _, err = view(folder)
    assert code == DataError.exit_code and "simulations of 2 measurements" in err and "(mock of sft@1)" in err
    (folder / "rewards.jsonl").write_text(lines[0])
    assert "simulation      good" in view(folder, "--id", "good")[1]


def test_a_list_at_80_columns_has_a_line_for_each(tmp_path: Path) -> None:
    long = [recorded(trial=n, id=f"{n}-49cd-8aa8-249b8d5fd8ec-4b6d") for n in range(2)]
    opened = open_recording(write(tmp_path, *long, failing()), domain=None, data=None, tasks_file=None)
    console = Console(file=io.StringIO(), width=80, color_system=None)
    list_simulations(opened, opened.find(), console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 4 and max(map(len, lines)) <= 80
    assert lines[0].split() == ["task", "trial", "reward", "ended", "by", "fault"]
    assert lines[3].split() == ["create_task_1", "2", "0", "user_stop", "agent"]


def test_ids_that_begin_alike_are_shown_whole(tmp_path: Path) -> None:
    """A list is where `--task` and `--id` are copied from."""
    begins = "[mms_issue]airplane_mode_on|bad_network_preference|bad_wifi_calling|break_apn_mms_settings|"
    both = [recorded(trial=0, task_id=begins + end, id=f"telecom-{begins}{end}-0") for end in ("break_app", "data_off")]
    opened = open_recording(write(tmp_path, *both), domain=None, data=None, tasks_file=None)
    console = Console(file=io.StringIO(), width=400, color_system=None)
    list_simulations(opened, opened.find(), console)
    rows = [line.split() for line in console.file.getvalue().splitlines()[1:]]  # type: ignore[attr-defined]
    assert [(row[0], row[-1]) for row in rows] == [(one["task_id"], one["id"]) for one in both]


@pytest.mark.parametrize("width", [20, 60, 200])
def test_a_terminal_of_any_width_shows_everything(tmp_path: Path, width: int) -> None:
    path = write(tmp_path, recorded(trial=0))
    ours, theirs = pty.openpty()
    code = f"from harness.cli import run; raise SystemExit(run(['tau2', 'view', {str(path)!r}, '--id', 'good']))"
    environment = {
        **os.environ,
        "COLUMNS": str(width),
        "TERM": "xterm",
        "PYTHONPATH": str(Path(harness.__file__).parents[1]),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=theirs, stderr=subprocess.PIPE, env=environment, check=False
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert done.returncode == 0, done.stderr
    lines = shown.decode().splitlines()
    text = " ".join(lines)
    assert "create_task" in text and "Done." in text and "gates" in text
    beside = any("0 agent" in line and "task" in line for line in lines)
    assert beside == (width >= WIDE)


TEXT = st.text(max_size=40)
CALLS = st.none() | st.lists(
    st.builds(
        ToolCall,
        name=TEXT,
        arguments=st.dictionaries(TEXT, TEXT, max_size=2),
        requestor=st.sampled_from(["user", "assistant"]),
    ),
    max_size=60,
).map(tuple)


@given(
    messages=st.lists(
        st.builds(
            Message,
            role=st.sampled_from(["assistant", "user", "tool", "system"]),
            content=st.none() | TEXT,
            tool_calls=CALLS,
        ),
        max_size=4,
    ),
    width=st.integers(1, 60),
)
def test_any_transcript_can_be_shown_and_is_plain_text(messages: list[Message], width: int) -> None:
    one = simulation(Task(id="t"), messages)
    console = Console(file=io.StringIO(), width=width, color_system=None)
    fault = Fault(cause="agent", rule="r", words=EVIL, turn=0)
    for limits in (SHORT, FULL):
        console.print(verdict(one, Task(id="t", user_scenario={"instructions": EVIL}), None, limits))
        for item in transcript(one, fault, limits):
            console.print(item)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(character == "\n" or character.isprintable() for character in shown)


@given(st.text())
def test_visible_text_is_one_printable_line(text: str) -> None:
    assert visible(text).isprintable()
    assert all(line.isprintable() for line in visible_lines(text).split("\n"))


def test_what_is_cut_says_how_much() -> None:
    assert cut("abc", 3) == "abc" and cut("abcd", 3) == "abc… (1 more characters; --full shows them)"


def test_a_thought_is_shown_folded_and_whole_with_full(tmp_path: Path, view: View) -> None:
    thought = "First I look.\n" + "Then I think. " * 20 + "At last I act."
    one = recorded(trial=0)
    one["messages"][2]["reasoning_content"] = thought
    path = write(tmp_path, one)
    _, out, _ = view(path, "--task", "create_task_1", "--trial", "0")
    assert "    thought: First I look." in out and "At last I act." not in out and "more characters" in out
    _, out, _ = view(path, "--task", "create_task_1", "--trial", "0", "--full")
    assert "At last I act." in out
