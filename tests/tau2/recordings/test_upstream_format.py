"""What is written in upstream's results format is what its models take, and nothing is lost there and back."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tau2_fields import fits_reward, fits_upstream
from tau2_samples import NAMES, calling, needs_port, play, recorded, results, shared, simulation, task_value

from harness.cli import run
from harness.core.errors import DataError, SpecError
from harness.core.tau2.fault import Fault
from harness.reward_models.tau2.reward import judge
from harness.tasks.tau2.recording import parse_simulation, read_recording
from harness.tasks.tau2.sources import open_domain
from harness.tasks.tau2.task_file import task_value as task_json
from harness.tau2.line import message_json
from harness.tau2.recordings.convert import convert
from harness.tau2.recordings.upstream_format import completed, info_value, reward_info
from harness.tau2.recordings.upstream_models import problem


def read(path: Path) -> Any:
    content = path.read_bytes()
    return json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)


def written(source: Path, out: Path) -> Path:
    made = convert(source, out)
    assert not made.left_out
    out.write_bytes(made.content)
    return out


@pytest.mark.parametrize("domain", NAMES)
def test_every_recording_comes_back_as_it_was(domain: str, tmp_path: Path) -> None:
    source = shared("tau2_parity", f"{domain}.results.json.gz")
    lines = written(source, tmp_path / "lines.jsonl")
    back = written(lines, tmp_path / "back.json")
    document, original = read(back), read(source)
    used = {one["task_id"] for one in original["simulations"]}
    assert document == {**original, "tasks": [task for task in original["tasks"] if task["id"] in used]}
    fits_upstream(document)
    one, other = read_recording(source), read_recording(lines)
    assert one.simulations == other.simulations and (one.domain, one.solo) == (other.domain, other.solo)


@needs_port
@pytest.mark.parametrize("name", NAMES)
def test_played_simulations_are_written_with_every_check_and_read_again(name: str, tmp_path: Path) -> None:
    domain = open_domain(name)
    tasks = domain.tasks("small") if name == "telecom" else domain.tasks()[:9]
    values = []
    verdicts = {}
    for task in tasks:
        assert task.evaluation_criteria is not None
        played = simulation(task, play(domain, task), id=f"s-{task.id}", trial=0)
        met = [True] * len(task.evaluation_criteria.nl_assertions or ())
        end = domain.end_state(task, played.messages)
        verdicts[task.id] = verdict = judge(task, played, end, nl_met=met)
        value = {
            "id": played.id,
            "task_id": task.id,
            "termination_reason": played.termination_reason,
            "trial": played.trial,
            "messages": [message_json(message, None) for message in played.messages],
            "reward_info": reward_info(task, played, verdict, end=end, nl_met=met),
            "seed": 1,
            "agent_cost": 0.5,
        }
        values.append(completed(value))
        assert parse_simulation(value, "x").messages == played.messages  # type: ignore[union-attr]
    document = {
        "info": info_value(name, solo=False, trials=1),
        "tasks": [task_json(task) for task in tasks],
        "simulations": values,
    }
    fits_upstream(document)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    again = read_recording(path)
    assert again.tasks == tuple(tasks)
    for one in again.simulations:
        verdict = verdicts[one.task_id]
        assert one.recorded.reward == verdict.reward
        assert one.recorded.components == {key: value for key, value in verdict.components.items() if value is not None}


@needs_port
def test_a_fault_travels_where_upstream_shows_it() -> None:
    task = open_domain("mock").tasks()[0]
    played = simulation(task, [], termination_reason="max_steps")
    fault = Fault(cause="agent", rule="max_steps", words="w", turn=3)
    info = reward_info(task, played, judge(task, played, None, nl_met=None), fault=fault)
    fits_reward(info)
    assert info["info"] == {"fault": fault.as_json()} and info["reward"] == 0.0


def test_an_unknown_reward_is_left_out_and_times_are_filled_in() -> None:
    made = completed({**recorded(), "reward_info": {"reward": None}})
    assert made["reward_info"] is None and problem(made) is None
    assert (made["start_time"], made["duration"]) == ("1970-01-01T00:00:00", 0.0)
    timed = [{"role": "user", "content": "x", "timestamp": f"2026-01-01T00:00:0{n}"} for n in range(3)]
    made = completed(recorded(messages=timed))
    assert (made["start_time"], made["end_time"]) == ("2026-01-01T00:00:00", "2026-01-01T00:00:02")


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no end": (recorded(termination_reason=None), "termination_reason: Input should be 'user_stop'"),
    "an end of ours": (recorded(termination_reason="bored"), "termination_reason: Input should be 'user_stop'"),
    "no messages": ({**recorded(), "messages": None}, "messages: Input should be a valid array"),
    "a message that is text": (recorded(messages=["x"]), "messages.0"),
    "an unknown role": (recorded(messages=[{"role": "bot"}]), "role: Input should be 'system'"),
    "an answer without an id": (recorded(messages=[{"role": "tool"}]), "id: Field required"),
    "content in parts": (
        recorded(messages=[{"role": "user", "content": []}]),
        "content: Input should be a valid string",
    ),
    "arguments as text": (calling("x", "{}"), "tool_calls.0.arguments: Input should be"),
    "an unknown caller": (
        recorded(messages=[{"role": "tool", "id": "x", "requestor": "bot"}]),
        "requestor: Input should be 'user'",
    ),
    "half a surrogate": (calling("x", {"a": "\ud800"}), "hex escape"),
    "deep": (calling("x", {"a": nested(200)}), "recursion limit"),
    "a reward in words": (
        recorded(reward_info={"reward": "one"}),
        "reward_info.reward: Input should be a valid number",
    ),
    "half a check": (
        recorded(reward_info={"reward": 1, "nl_assertions": [{"met": True}]}),
        "reward_info.nl_assertions.0.nl_assertion: Field required",
    ),
    "an unknown component": (
        recorded(reward_info={"reward": 1, "reward_breakdown": {"VIBES": 1}}),
        "reward_info.reward_breakdown.VIBES",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_upstream_would_refuse_is_left_out_and_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, why = BAD[name]
    source, out = tmp_path / "r.json", tmp_path / "out.json"
    source.write_text(json.dumps(results({**bad, "id": "bad\u001b[2J"}, recorded())))
    code = run(["tau2", "convert", str(source), "-o", str(out)])
    printed = capsys.readouterr()
    assert code == 8 and printed.err == printed.err.replace("\u001b", "") and why in printed.err
    assert printed.err.startswith(r"bad\x1b[2J: left out: ") and "1 simulation(s) written" in printed.out
    assert [one["id"] for one in read(out)["simulations"]] == ["good"]


def test_what_cannot_be_parsed_and_what_has_no_task_is_left_out(tmp_path: Path) -> None:
    source = tmp_path / "r.jsonl"
    good = {**recorded(), "domain": "mock", "task": task_value()}
    source.write_text(f"{json.dumps(good)}\nnot JSON\n[1]\n{json.dumps({**good, 'id': 'lost', 'task_id': 'other'})}\n")
    made = convert(source, tmp_path / "out.json.gz")
    assert made.n == 1 and json.loads(gzip.decompress(made.content))["simulations"][0]["id"] == "good"
    assert [name for name, _ in made.left_out] == ["line 2", "line 3", "lost"]
    assert made.content == convert(source, tmp_path / "again.json.gz").content


@needs_port
def test_tasks_that_a_file_lacks_are_the_domains(tmp_path: Path) -> None:
    source = tmp_path / "r.jsonl"
    source.write_text(json.dumps({**recorded(), "domain": "mock", "solo": True}) + "\n")
    document = json.loads(convert(source, tmp_path / "out.json").content)
    assert [task["id"] for task in document["tasks"]] == ["create_task_1"]
    fits_upstream(document)
    (tmp_path / "out.json").write_text(json.dumps(document))
    assert read_recording(tmp_path / "out.json").solo


def test_a_name_says_the_format_and_a_domain_is_needed(tmp_path: Path) -> None:
    source = tmp_path / "r.json"
    source.write_text(json.dumps(results(recorded(), domain=None)))
    with pytest.raises(SpecError, match=r"name it \.jsonl for JSON lines or \.json"):
        convert(source, tmp_path / "out.txt")
    with pytest.raises(DataError, match="name it with `domain`"):
        convert(source, tmp_path / "out.jsonl")
    assert convert(source, tmp_path / "out.jsonl", domain="mock").n == 1
