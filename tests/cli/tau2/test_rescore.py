"""`harness tau2 rescore`: what it reads, what it prints and writes, and how it says what is wrong."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tau2_samples import calling, needs_port, recorded, results, task_value

from harness.cli import run
from harness.tasks.tau2.task_file import parse_tasks, revision

pytestmark = needs_port


def write(path: Path, value: Any) -> Path:
    content = (value if isinstance(value, str) else json.dumps(value)).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


Rescore = Callable[..., tuple[int, str, str, list[dict[str, Any]]]]


@pytest.fixture
def rescore(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Rescore:
    def call(*arguments: object) -> tuple[int, str, str, list[dict[str, Any]]]:
        out = tmp_path / "out.jsonl"
        code = run(["tau2", "rescore", *map(str, arguments), "--out", str(out)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err, lines(out) if out.exists() else []

    return call


GOOD = {"DB": 1.0, "ENV_ASSERTION": None, "ACTION": 1.0, "COMMUNICATE": None, "NL_ASSERTION": None}


@pytest.mark.parametrize("name", ["r.json", "r.json.gz", "r.jsonl", "r.jsonl.gz"])
def test_every_format_is_read_and_one_line_written_per_simulation(tmp_path: Path, rescore: Rescore, name: str) -> None:
    ours = json.dumps({**recorded(), "domain": "mock", "task": task_value()}) + "\n"
    path = write(tmp_path / name, ours if "jsonl" in name else results(recorded()))
    code, out, _, written = rescore(path)
    assert code == 0 and "1/1" in out
    verdict = {"id": "good", "task_id": "create_task_1", "reward": 1.0, "components": GOOD, "nl_judge": "none"}
    provenance = {key: written[0][key] for key in ("domain", "source", "task_revision")}
    assert written == [{**verdict, **provenance}]
    assert provenance["source"].startswith("inspect-evals ") and provenance["source"] in out
    assert provenance["task_revision"][:19] in out


def test_upstreams_folder_format_is_read(tmp_path: Path, rescore: Rescore) -> None:
    (tmp_path / "run" / "simulations").mkdir(parents=True)
    write(tmp_path / "run" / "results.json", results())
    for number in range(2):
        write(tmp_path / "run" / "simulations" / f"s{number}.json", recorded(id=f"s{number}"))
    code, _, _, written = rescore(tmp_path / "run")
    assert code == 0 and [line["id"] for line in written] == ["s0", "s1"]


def test_a_torn_last_line_is_ignored_and_a_broken_one_is_not(tmp_path: Path, rescore: Rescore) -> None:
    good = json.dumps({**recorded(), "domain": "mock", "task": task_value()})
    code, _, _, written = rescore(write(tmp_path / "torn.jsonl", f"{good}\n{good[:50]}"))
    assert code == 0 and len(written) == 1
    other = good.replace('"id": "good"', '"id": "other"', 1)
    code, _, err, written = rescore(write(tmp_path / "broken.jsonl", f"{good}\n{good[:50]}\n{other}\n"))
    assert code == 8 and [line["reward"] for line in written] == [1.0, None, 1.0]
    assert "line 2: not judged: not valid JSON" in err


def test_what_changed_is_shown_by_component(tmp_path: Path, rescore: Rescore) -> None:
    then = {"reward": 0.0, "reward_breakdown": {"DB": 0.0, "COMMUNICATE": 1.0}}
    same = {"reward": 1.0, "db_check": {"db_match": True, "db_reward": 1.0}}
    path = write(
        tmp_path / "r.json", results(recorded(reward_info=then, id="other"), recorded(reward_info=same, id="same"))
    )
    code, out, _, _ = rescore(path)
    shown = [line for line in out.splitlines() if line.startswith("other")]
    assert code == 0 and "DB 0→1" in shown[0] and not [line for line in out.splitlines() if line.startswith("same")]
    assert "0.5000" in out


def test_nl_assertions_need_a_judge_and_pass_is_marked(tmp_path: Path, rescore: Rescore) -> None:
    task = task_value(nl_assertions=["polite"], reward_basis=["DB", "NL_ASSERTION"])
    path = write(tmp_path / "r.json", results(recorded(), tasks=[task]))
    code, _, err, written = rescore(path)
    assert code == 8 and "1 simulation(s) need a judge" in err
    assert written[0]["reward"] is None and written[0]["reason"] == "needs a judge"
    code, out, _, written = rescore(path, "--nl-judge", "pass")
    assert code == 0 and "nobody judged" in out
    assert written[0]["reward"] == 1.0 and written[0]["nl_judge"] == "pass"


def test_tools_that_answer_otherwise_are_remarked(tmp_path: Path, rescore: Rescore) -> None:
    _, _, err, _ = rescore(write(tmp_path / "r.json", results(recorded())))
    assert "in 1 simulation(s) tools answer otherwise than in the recording" in err


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path, rescore: Rescore) -> None:
    odd = calling("create_task", {}, id="\u001b[2J\u0007[bold]x", reward_info={"reward": 1.0})
    code, out, _, _ = rescore(write(tmp_path / "r.json", results(odd)))
    assert code == 0 and "\u001b" not in out and "\u0007" not in out and r"\x1b[2J\x07[bold]x" in out


def error(value: Any, tmp_path: Path, rescore: Rescore, *arguments: object) -> str:
    code, _, err, written = rescore(write(tmp_path / "r.json", value), *arguments)
    assert code in (3, 4) and not written
    assert err.startswith("harness: error: ") and err.count("\n") == 1
    return err


WRONG: dict[str, tuple[Any, str]] = {
    "not JSON": ("{", "r.json: not valid JSON"),
    "cut off": (json.dumps(results(recorded()))[:-40], "was it cut off?"),
    "something else": ({"a": 1}, "no simulations in it; expected upstream's results.json"),
    "a list": ([1], "no simulations in it"),
    "empty": ("", "not valid JSON"),
    "no domain": (results(recorded(), domain=None), "does not say which domain it is of; name it with --domain"),
    "unknown domain": (results(recorded(), domain="bank"), "unknown tau2 domain 'bank'"),
    "unknown reward type": (
        results(recorded(), tasks=[task_value(reward_basis=["DB", "VIBES"])]),
        "task 'create_task_1': unknown reward type 'VIBES'; known are ACTION, COMMUNICATE, DB",
    ),
    "a task id twice": (results(recorded(), tasks=[task_value(), task_value()]), "'create_task_1' is there twice"),
    "unknown tool": (
        results(recorded(), tasks=[task_value(actions=[{"action_id": "a7", "name": "fly", "arguments": {}}])]),
        "reference action 'a7' calls the tool 'fly', which does not exist",
    ),
    "unknown function": (
        results(
            recorded(),
            tasks=[task_value(env_assertions=[{"env_type": "user", "func_name": "assert_fun", "arguments": {}}])],
        ),
        "the user side has no function 'assert_fun'",
    ),
    "malformed task": (results(recorded(), tasks=[task_value(actions=[{"name": "x"}])]), "actions.0.arguments"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, rescore: Rescore, name: str) -> None:
    value, message = WRONG[name]
    assert message in error(value, tmp_path, rescore)


def test_wrong_options_are_one_clear_line(tmp_path: Path, rescore: Rescore) -> None:
    good = results(recorded())
    assert "--nl-judge 'yes' is unknown; it takes none or pass" in error(good, tmp_path, rescore, "--nl-judge", "yes")
    assert "cannot read" in error(good, tmp_path, rescore, "--tasks-file", tmp_path / "absent.json")
    assert "has no folder 'mock'" in error(good, tmp_path, rescore, "--data", tmp_path)
    code, _, err, _ = rescore(tmp_path / "absent.json")
    assert code == 4 and "cannot read" in err and err.count("\n") == 1


def test_a_domain_can_be_named_and_tasks_replaced(tmp_path: Path, rescore: Rescore) -> None:
    path = write(tmp_path / "r.json", results(recorded(), domain=None))
    assert rescore(path, "--domain", "mock")[0] == 0
    action = {"action_id": "a", "name": "update_task_status", "arguments": {"task_id": "task_1", "status": "completed"}}
    tasks = write(tmp_path / "tasks.json", [task_value(actions=[action])])
    _, _, _, written = rescore(path, "--domain", "mock", "--tasks-file", tasks)
    assert written[0]["reward"] == 0.0


def test_unlike_task_revisions_are_never_compared_silently(tmp_path: Path, rescore: Rescore) -> None:
    then = {"reward": 1.0}
    one = write(tmp_path / "one.json", results(recorded(reward_info=then)))
    assert "unlike task" not in rescore(one, one)[2]
    action = {"action_id": "a", "name": "update_task_status", "arguments": {"task_id": "task_1", "status": "completed"}}
    other = [task_value(actions=[action])]
    _, _, err, _ = rescore(one, write(tmp_path / "two.json", results(recorded(), tasks=other)))
    assert "one.json and" in err and "are of unlike task revisions: their rewards do not compare" in err
    _, _, err, written = rescore(one, "--tasks-file", write(tmp_path / "tasks.json", other))
    assert "the recorded rewards are of tasks sha256:" in err and "what changed may be the tasks" in err
    assert written[0]["fault"]["cause"] == "agent" and written[0]["fault"]["words"] == "failed DB"


def test_a_file_of_two_versions_of_a_task_is_refused(tmp_path: Path, rescore: Rescore) -> None:
    lines = [{**recorded(), "domain": "mock", "task": task_value(actions=actions)} for actions in ([], None)]
    path = write(tmp_path / "r.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert "line 2: task 'create_task_1' is not the one of an earlier line" in rescore(path)[2]
    lines = [{**recorded(), "domain": "mock", "task_revision": f"sha256:{n}"} for n in range(2)]
    path = write(tmp_path / "r2.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert "simulations of several task revisions" in rescore(path)[2]


def test_a_stated_revision_that_is_not_that_of_the_tasks_is_remarked(tmp_path: Path, rescore: Rescore) -> None:
    line = {**recorded(), "domain": "mock", "task_revision": "sha256:other"}
    assert "are of tasks sha256:other, those now" in rescore(write(tmp_path / "r.jsonl", json.dumps(line) + "\n"))[2]


def test_another_source_than_the_recordings_is_remarked(tmp_path: Path, rescore: Rescore) -> None:
    line = {**recorded(), "domain": "mock", "source": "tau2 9.9"}
    assert (
        "recorded with tau2 9.9, judged here with inspect-evals"
        in rescore(write(tmp_path / "r.jsonl", json.dumps(line) + "\n"))[2]
    )


def test_another_answer_of_a_tool_is_named_with_both_answers(tmp_path: Path, rescore: Rescore) -> None:
    other = recorded(id="other")
    other["messages"][3]["content"] = '{"task_id": "task_77"}'
    _, _, err, _ = rescore(write(tmp_path / "r.json", results(other)))
    assert "in 1 simulation(s) tools answer otherwise than in the recording" in err
    assert "first in other: create_task(" in err and '"title": "Important Meeting"' in err
    assert "task_77" in err and "task_2" in err and err.index("task_77") < err.index("task_2")


def test_answers_are_compared_in_text_before_their_flags(tmp_path: Path, rescore: Rescore) -> None:
    unlike = calling("create_task", {"user_id": "nobody", "title": "x"})
    unlike["messages"][1].update(content="Error: User nobody not found", error=False)
    assert "answer otherwise" not in rescore(write(tmp_path / "r.json", results(unlike)))[2]
    unlike["messages"][1].update(content="Done", error=False)
    assert (
        "answered 'Done' then, 'Error: User nobody not found' now"
        in rescore(write(tmp_path / "r.json", results(unlike)))[2]
    )


def test_calls_of_unknown_tools_are_counted(tmp_path: Path, rescore: Rescore) -> None:
    _, _, err, (line, good) = rescore(
        write(tmp_path / "r.json", results(calling("fly", {}, id="flown"), recorded(id="played")))
    )
    assert "in 1 simulation(s) 1 call(s) are of tools that this domain does not have ('fly' 1)" in err
    assert line["unknown_calls"] == {"fly": 1} and "unknown_calls" not in good


def test_a_recording_of_the_workflow_is_judged_as_such(tmp_path: Path, rescore: Rescore) -> None:
    task = task_value(actions=[])
    path = write(tmp_path / "r.json", results(recorded(messages=[]), tasks=[task], domain="telecom-workflow"))
    _, out, _, (line,) = rescore(path)
    assert line["domain"] == "telecom-workflow" and "telecom-workflow" in out


def test_a_revision_does_not_change_with_keys_that_a_task_does_not_have() -> None:
    known = "sha256:9bcb89a1a297c051778fc716ab1afb941e282822b41efba5fe88581daf22dc28"
    assert revision(parse_tasks([task_value()], "here")) == known
    assert revision(parse_tasks([{**task_value(), "user_tools": []}], "here")) != known


def test_tasks_come_from_the_domain_where_the_file_has_none(tmp_path: Path, rescore: Rescore) -> None:
    value = results(recorded())
    del value["tasks"]
    assert rescore(write(tmp_path / "r.json", value))[3][0]["reward"] == 1.0


def ours(*simulations: dict[str, Any]) -> str:
    return "".join(json.dumps({**one, "domain": "mock", "task": task_value()}) + "\n" for one in simulations)


OTHER = {"messages": [{"role": "assistant", "content": "Hi! How can I help you today?"}]}


@pytest.mark.parametrize("again", [{}, {"id": "again"}, {"reward_info": {"reward": 0.5}}])
def test_a_simulation_that_stands_twice_is_one_trial(tmp_path: Path, rescore: Rescore, again: dict[str, Any]) -> None:
    """A file written twice, converted twice or judged twice; its other trial is the same conversation and counts."""
    first, second = recorded(trial=0), recorded(trial=1, id="second")
    path = write(tmp_path / "r.jsonl", ours(first, second, {**first, **again}))
    code, out, err, written = rescore(path)
    assert code == 0 and "2/2" in out and "1:1.0000 2:1.0000" in out and "3:" not in out
    assert f"{path}: 1 simulation(s) stand there once more; each is counted once" in err
    assert [line["id"] for line in written] == ["second", again.get("id", "good")]


def test_simulations_without_a_trial_are_told_apart_by_their_ids(tmp_path: Path, rescore: Rescore) -> None:
    path = write(tmp_path / "r.jsonl", ours(recorded(), recorded(id="other"), recorded()))
    _, out, err, _ = rescore(path)
    assert "2/2" in out and "1 simulation(s) stand there once more" in err


def test_two_simulations_of_one_id_that_differ_are_refused(tmp_path: Path, rescore: Rescore) -> None:
    path = write(tmp_path / "r.jsonl", ours(recorded(trial=0), recorded(trial=1, **OTHER)))
    code, _, err, written = rescore(path)
    assert code == 4 and not written and err.count("\n") == 1
    assert (
        f"{path}: two simulations have the id 'good' (task 'create_task_1' trial 0, task 'create_task_1' trial 1)"
        in err
    )


def test_two_simulations_of_one_trial_that_differ_are_remarked(tmp_path: Path, rescore: Rescore) -> None:
    path = write(tmp_path / "r.json", results(recorded(trial=0), recorded(trial=0, id="other", **OTHER)))
    code, out, err, _ = rescore(path)
    assert code == 0 and "2/2" in out
    assert "1 task(s) have several simulations of one trial that differ (task 'create_task_1' trial 0: 2)" in err


def test_what_two_files_share_is_said_and_other_runs_of_a_trial_are_not(tmp_path: Path, rescore: Rescore) -> None:
    one = write(tmp_path / "one.json", results(recorded(trial=0), recorded(trial=1, id="two")))
    two = write(tmp_path / "two.json", results(recorded(trial=0)))
    other = write(tmp_path / "other.json", results(recorded(trial=0, **OTHER)))
    assert f"{one} and {two} hold 1 simulation(s) in common: together they are no more trials" in rescore(one, two)[2]
    assert "in common" not in rescore(one, other)[2]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"id": "a", "trial": 0}, {"id": "b", "trial": 1}),
        ({"id": None, "trial": None}, {"id": None, "trial": None}),
        ({"id": "a", "trial": None}, {"id": "b", "trial": 0}),
    ],
)
@pytest.mark.parametrize("as_lines", [False, True])
def test_a_conversation_that_stands_twice_under_other_names_is_said(
    tmp_path: Path, rescore: Rescore, one: dict[str, Any], other: dict[str, Any], as_lines: bool
) -> None:
    values = [{**recorded(), **names} for names in (one, other)]
    mock = {"domain": "mock", "task": task_value()}
    written = "".join(json.dumps({**value, **mock}) + "\n" for value in values) if as_lines else results(*values)
    code, _, err, made = rescore(write(tmp_path / ("r.jsonl" if as_lines else "r.json"), written))
    assert code == 0 and len(made) == 2
    assert "1 simulation(s) repeat another of their task word for word under another id or trial" in err
    copy = write(tmp_path / "copy.json", results({**recorded(), "id": "c", "trial": 5}))
    other_word = write(tmp_path / "other.json", results({**recorded(), "messages": recorded()["messages"][:-1]}))
    assert (
        "copy.json hold 1 simulation(s) in common"
        in rescore(write(tmp_path / "first.json", results(recorded())), copy)[2]
    )
    assert "in common" not in rescore(other_word, copy)[2]


@pytest.mark.parametrize("names", [{"id": 7}, {"id": "a", "trial": "0"}])
def test_ids_and_trials_written_as_the_other_kind_are_read(
    tmp_path: Path, rescore: Rescore, names: dict[str, Any]
) -> None:
    code, _, err, (line,) = rescore(write(tmp_path / "r.json", results(*[{**recorded(), **names}] * 2)))
    assert code == 0 and line["id"] == str(names["id"])
    assert "1 simulation(s) stand there once more" in err
