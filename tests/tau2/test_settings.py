"""The settings of simulations: one record, one identity, messages in the words of whoever gave them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli import run as harness
from harness.components.tau2.component import Tau2Component
from harness.core.defaults import Defaults
from harness.core.errors import SpecError, StateError
from harness.engines.scripted.chat import ScriptedChat
from harness.engines.scripted.server import ScriptedServer, serving
from harness.spec.spec import parse_spec
from harness.tasks.tau2.sources import open_domain
from harness.tau2.flat import as_option, keys, named, nested, renamed
from harness.tau2.plan import make_plan
from harness.tau2.runs.folder import open_run_folder
from harness.tau2.runs.run import Models, run
from harness.tau2.settings import Tau2Settings, identity_as_now, settings_of
from harness.tau2.simulate.reference_play import ReferencePlay

MOCK: dict[str, Any] = {"domain": "mock", "task_ids": ["create_task_1", "update_task_1"]}
USER = {"model": "hosted_vllm/u", "api_base": "http://127.0.0.1:1/v1"}


def at(values: dict[str, Any], path: str) -> Any:
    for key in path.split("."):
        values = values[key]
    return values


def test_every_flat_name_is_a_key_of_the_settings() -> None:
    schema = Tau2Settings.model_json_schema()
    for name, path in keys().items():
        outer, _, inner = path.partition(".")
        assert outer in schema["properties"], name
        if inner:
            part = {"agent": "AgentConfig"}.get(outer, "ChatConfig")
            assert inner in schema["$defs"][part]["properties"], name


def test_flat_names_and_keys_say_the_same() -> None:
    flat = {"domain": "mock", "agent_llm": "hosted_vllm/a", "agent_llm_args": '{"top_p": 0.5}', "num_trials": 2}
    written = {"domain": "mock", "agent": {"model": "hosted_vllm/a", "args": {"top_p": 0.5}}, "trials": 2}
    assert settings_of(nested({**flat, "user_llm": None})) == settings_of(written)


@pytest.mark.parametrize(
    ("said", "option"),
    [
        ("trials: Input should be greater than or equal to 1, not 0", "--num-trials: Input should be"),
        ("a; agent.args: holds an api_key", "a; --agent-llm-args: holds an api_key"),
        ("key 'user.model' is missing", "--user-llm is missing"),
        ("set `greeting` to hide", "set --greeting to hide"),
        ("name the user's model with `user`", "with --user-llm"),
        ("task 'trials: x' of domain mock", "task 'trials: x' of domain mock"),
        ("`nothing` of ours: x", "`nothing` of ours: x"),
    ],
)
def test_a_message_says_the_options_for_the_keys(said: str, option: str) -> None:
    assert option in renamed(said, as_option)
    with pytest.raises(SpecError) as caught, named(as_option):
        raise SpecError(said)
    assert option in str(caught.value)


def test_a_part_without_a_model_is_said_and_not_passed_over() -> None:
    with pytest.raises(SpecError, match="--nl-judge is missing"), named(as_option):
        settings_of(nested({"domain": "mock", "judge_api_base": "http://127.0.0.1:1/v1"}))


def folder_settings(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())["settings"]
    return found


def test_a_folder_of_the_command_and_one_of_a_component_are_the_same_run(tmp_path: Path) -> None:
    """All but who the agent is: there a model by name, here the checkpoint."""
    tasks = [task for task in open_domain("mock").tasks() if task.id in MOCK["task_ids"]]
    with serving(ScriptedServer(ReferencePlay(tasks))) as server:
        command = ["tau2", "run", "-d", "mock", "--agent-llm", "hosted_vllm/a", "--agent-api-base", server.url]
        command += ["--user-llm", "hosted_vllm/u", "--user-api-base", server.url, "--nl-judge", "hosted_vllm/j"]
        command += ["--judge-api-base", server.url, "--task-ids", ",".join(MOCK["task_ids"]), "--quiet"]
        assert harness([*command, "--out", str(tmp_path / "a")]) == 0
        played = (tmp_path / "a" / "simulations.jsonl").read_bytes()
        judge = {"model": "hosted_vllm/j", "api_base": server.url}
        spec = parse_spec(
            {
                "components": [
                    {"name": "m", "kind": "tau2", **MOCK, "user": {**USER, "api_base": server.url}, "nl_judge": judge}
                ]
            }
        )
        component = Tau2Component.load(spec.components[0], Defaults())
    mine = {**component.plan.identity(), **component.config.identity()}
    theirs = folder_settings(tmp_path / "a")
    assert {**mine, "agent": None} == {**theirs, "agent": None}
    assert (mine["agent"], theirs["agent"]) == (
        {"model": "checkpoint", "args": {"temperature": 0.0}},
        {"model": "hosted_vllm/a", "args": {"temperature": 0.0}},
    )
    with open_run_folder(tmp_path / "a", identity={**mine, "agent": theirs["agent"]}) as folder:
        silent = ScriptedChat([])
        report = asyncio.run(run(component.plan, Models(agent=silent, user=silent), folder))
    assert report.n_new == 0 and len(report.results) == 2, "what the command played is the component's too"
    assert (tmp_path / "a" / "simulations.jsonl").read_bytes() == played


@pytest.mark.parametrize(
    "older",
    [
        {"agent": {"model": "m", "arguments": {"temperature": 0.0}}, "user": {"model": "u", "arguments": {}}},
        {
            "agent": {"model": "m", "arguments": {"temperature": 0.0}},
            "nl_judge": "j",
            "user": {"model": "u", "arguments": {}},
        },
    ],
)
def test_a_folder_of_an_earlier_version_goes_on(tmp_path: Path, older: dict[str, Any]) -> None:
    plan = make_plan(settings_of(MOCK))
    stored = {**plan.identity(), "nl_judge": None, "reviewer": None, **older}
    (tmp_path / "run.json").write_text(json.dumps({"schema": "harness.tau2_run/1", "settings": stored}))
    (tmp_path / "unfinished.jsonl").write_text("\n")
    now: dict[str, Any] = {"agent": {"model": "m", "args": {"temperature": 0.0}}, "user": {"model": "u", "args": {}}}
    now["nl_judge"] = {"model": "j", "args": {"temperature": 0.0}} if "nl_judge" in older else None
    with open_run_folder(tmp_path, identity={**plan.identity(), "reviewer": None, **now}):
        pass
    other = {**plan.identity(), "reviewer": None, **now, "user": {"model": "v", "args": {}}}
    with pytest.raises(StateError, match="other settings"), open_run_folder(tmp_path, identity=other):
        pass


def test_a_components_folder_of_an_earlier_version_is_read_as_this_one_writes_it() -> None:
    stored = {
        "metric": "reward",
        "trials": 2,
        "serve": {},
        "agent": {"temperature": 0.0},
        "user": {"model": "u", "args": {}},
    }
    assert identity_as_now(stored) == {
        "agent": {"model": "checkpoint", "args": {"temperature": 0.0}},
        "user": {"model": "u", "args": {}},
    }
