"""`rescore --out NAME.json`: the recording in upstream's format, with the rewards of now and every check."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tau2_fields import fits_upstream
from tau2_samples import needs_port, recorded, results, task_value

from harness.cli import run
from harness.reward_models.tau2.review import Review
from harness.tau2.judging.reviewer import Reviewed
from harness.tau2.recordings.rescore import NlJudge, prepare, rescore
from harness.tau2.recordings.rescored_file import rescored_file

pytestmark = needs_port


def rescored(path: Path, *arguments: str) -> Any:
    out = path.with_name("out.json")
    run(["tau2", "rescore", str(path), "--out", str(out), *arguments])
    return json.loads(out.read_text())


def whole(value: dict[str, Any]) -> dict[str, Any]:
    """The document with all that upstream's `info` needs."""
    value["info"] = {
        "git_commit": "c",
        "num_trials": 1,
        "max_steps": 5,
        "max_errors": 2,
        "user_info": {"implementation": "user_simulator", "llm": "u", "llm_args": {"top_p": 1}},
        "agent_info": {"implementation": "llm_agent", "llm": "a"},
        "environment_info": {"domain_name": "mock", "policy": "p"},
    }
    return value


def test_the_rewards_are_those_of_now_and_all_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    task = task_value(communicate_info=["done"])
    task["description"] = {"purpose": "x", "relevant_policies": None, "notes": None}
    task["evaluation_criteria"]["actions"][0]["info"] = "why"
    spoiled = recorded(id="other", messages=[], reward_info={"reward": 1.0}, info={"kept": 1}, agent_cost=0.5)
    before = whole(results(recorded(reward_info={"reward": 0.0}), spoiled, tasks=[task]))
    path.write_text(json.dumps(before))
    after = rescored(path)
    fits_upstream(after)
    assert after["info"] == before["info"] and after["tasks"] == [task]
    first, second = (one["reward_info"] for one in after["simulations"])
    assert (first["reward"], second["reward"]) == (1.0, 0.0)
    (check,) = first["action_checks"]
    assert check["action"]["info"] == "why" and (check["tool_type"], check["action_match"]) == ("write", True)
    assert first["db_check"] == {"db_match": True, "db_reward": 1.0}
    assert first["communicate_checks"][0]["met"] and first["info"]["source"].startswith("inspect-evals ")
    assert second["info"]["fault"]["cause"] == "agent"
    assert after["simulations"][1]["info"] == {"kept": 1} and after["simulations"][1]["agent_cost"] == 0.5


def test_what_has_no_reward_has_no_verdict_and_says_why(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    broken = recorded(id="broken", messages=[{"role": "tool", "id": "c", "content": "x"}], reward_info={"reward": 1.0})
    judged = task_value("j", nl_assertions=["Kind."], reward_basis=["NL_ASSERTION"])
    path.write_text(json.dumps(whole(results(broken, recorded(task_id="j"), tasks=[task_value(), judged]))))
    after = rescored(path)
    fits_upstream(after)
    assert [one["reward_info"] for one in after["simulations"]] == [None, None]
    assert "follows no call" in after["simulations"][0]["info"]["not_judged"]
    assert after["simulations"][1]["info"]["not_judged"] == "needs a judge"
    passed = rescored(path, "--nl-judge", "pass")["simulations"][1]["reward_info"]
    assert passed["reward"] == 1.0 and passed["info"]["nl_judge"] == "pass"


def test_other_tasks_are_those_in_the_file(tmp_path: Path) -> None:
    path, tasks = tmp_path / "r.json", tmp_path / "tasks.json"
    path.write_text(json.dumps(whole(results(recorded()))))
    tasks.write_text(json.dumps([task_value(communicate_info=["never said"])]))
    after = rescored(path, "--tasks-file", str(tasks))
    assert after["tasks"] == json.loads(tasks.read_text()) and after["simulations"][0]["reward_info"]["reward"] == 0.0


def test_a_review_made_now_is_in_the_file(tmp_path: Path) -> None:
    path, out = tmp_path / "r.json", tmp_path / "o.json"
    path.write_text(json.dumps(whole(results(recorded(messages=[])))))
    prepared = prepare(path, domain=None, data=None, tasks_file=None)
    found = Review(findings=(), summary="Nothing was said.")
    items = [
        replace(item, reviewed=Reviewed(by="critic", review=found)) for item in rescore(prepared, nl_judge=NlJudge.NONE)
    ]
    (one,) = json.loads(rescored_file(prepared, items, out, nl_judge=NlJudge.NONE).content)["simulations"]
    assert one["review"]["summary"] == "Nothing was said." and one["review"]["model"] == "critic"


def test_it_is_of_one_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps(results(recorded())))
    assert run(["tau2", "rescore", str(path), str(path), "--out", str(tmp_path / "o.json")]) == 3
    assert "is of one recording; give one FILE, or name it .jsonl" in capsys.readouterr().err


def test_what_upstreams_newest_version_writes_passes_through(tmp_path: Path) -> None:
    """Usage of a session, costs of one side alone, how the run was spread: nothing of it is ours, and all of it stays."""
    usage = {"provider": "p", "num_raw_records": 3, "cost": None, "cost_breakdown": {"audio": 1}, "raw": [[1]]}
    first = recorded(id="a", trial=0, agent_usage=usage, agent_cost=None, user_cost=0.25)
    second = recorded(id="b", trial=1, agent_usage=None, agent_cost=0.5, user_cost=None, worker="w1")
    before = whole(results(first, second))
    before["info"] |= {"workers": 4, "provider_limits": {"openai": 40}}
    path = tmp_path / "r.json"
    path.write_text(json.dumps(before))
    after = rescored(path)
    assert after["info"] == before["info"]
    for then, now in zip(before["simulations"], after["simulations"], strict=True):
        assert {name: now[name] for name in then if name != "reward_info"} == {
            name: value for name, value in then.items() if name != "reward_info"
        }
    assert run(["tau2", "convert", str(path), "--out", str(tmp_path / "lines.jsonl")]) == 0
    assert run(["tau2", "rescore", str(tmp_path / "lines.jsonl")]) == 0
