"""A family of agent benchmarks: what can run here is measured, what cannot is named, and the two never look alike."""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import Any

import pytest
from inspect_tasks import asked, text_of, write_humaneval, write_mbpp
from tau2_samples import needs_port

from harness.components.inspect.checks import docker_problem
from harness.components.inspect.config import InspectConfig
from harness.components.inspect.family import FamilyComponent
from harness.components.inspect.kind import InspectKind
from harness.core.chat import ChatAnswer, ChatRequest
from harness.core.component import SilentProgress
from harness.core.defaults import Defaults
from harness.core.digest import digest_json
from harness.core.errors import SpecError
from harness.engines.scripted.trouble import Trouble
from harness.reward_models.items import Items, scored_items
from harness.tasks.suites.families import families
from harness.tasks.suites.inspect_cards import card_of
from harness.tasks.suites.sandbox import protection

needs_sandbox = pytest.mark.skipif(protection().refusal is not None, reason=str(protection().refusal))
no_docker = pytest.mark.skipif(docker_problem() is None, reason="Docker is here")


def family(folder: Path, **keys: Any) -> FamilyComponent:
    config = InspectConfig.model_validate({"name": "it", "kind": "inspect", "attempts": 1, **keys})
    found = InspectKind.load(InspectKind.resolve(config, folder), Defaults())
    assert isinstance(found, FamilyComponent)
    return found


def coding(folder: Path, *, mbpp: bool = True) -> FamilyComponent:
    data = {**write_humaneval(folder, 4)["data"], **(write_mbpp(folder)["data"] if mbpp else {})}
    return family(folder, suite="coding", data=data, allow_code_execution=True)


def programmer(request: ChatRequest) -> ChatAnswer:
    """Two of four right in one benchmark, all in the other."""
    if "def add" not in text_of(request):
        return ChatAnswer(content="```python\ndef double(x):\n    return 2 * x\n```")
    number = int(text_of(request).partition("def add")[2].partition("(")[0])
    return ChatAnswer(content=f"    return x + {number if number % 2 else 99}")


@needs_sandbox
@no_docker
def test_a_member_that_cannot_run_here_is_named_and_the_suite_is_partial(tmp_path: Path) -> None:
    it = coding(tmp_path)
    assert [*it.missing] == ["SWE-bench Verified mini", "AgentBench OS"]
    assert all("Docker" in why for why in it.missing.values())
    warned = [check for check in it.checks() if check.ok is None]
    assert [check.name for check in warned] == ["coding: SWE-bench Verified mini", "coding: AgentBench OS"]
    with asked(programmer) as (subject, _):
        outcome = it.measure(subject, SilentProgress(), tmp_path / "s")
    made = outcome.measurement
    assert (made.status, made.raw, made.n_items, made.n_scored) == ("partial", (0.5 + 1.0) / 2, 6, 6)
    assert "without SWE-bench Verified mini, which cannot run here" in str(made.reason)
    assert [*made.detail["missing"]] == [*it.missing]  # type: ignore[misc]
    breakdown: Any = made.detail["breakdown"]
    assert {name: row["value"] for name, row in breakdown.items()} == {"HumanEval": 0.5, "MBPP": 1.0}
    assert made.stderr == pytest.approx(breakdown["HumanEval"]["stderr"] / 2)
    assert isinstance(scored_items(outcome.items, made, it.task), Items), "paired from step to step"
    assert set(outcome.items["task"]) == {"humaneval", "mbpp"} and outcome.n_open == 0
    assert all((tmp_path / "s" / name).exists() for name in outcome.files)


@needs_sandbox
def test_fewer_members_are_another_definition(tmp_path: Path) -> None:
    two, one = coding(tmp_path), coding(tmp_path, mbpp=False)
    assert digest_json(two.definition) != digest_json(one.definition)
    assert "MBPP" in one.missing and "hf download" in one.missing["MBPP"]
    assert pickle.loads(pickle.dumps(one)).definition == one.definition


@needs_sandbox
def test_a_member_that_has_no_value_leaves_the_suite_without(tmp_path: Path) -> None:
    """Only what is known beforehand, and is in the definition, may be left out of the mean."""
    it = coding(tmp_path)
    bad = Trouble(kind="500", when=lambda _, request: "def add" in text_of(request))
    with asked(programmer, troubles=[bad]) as (subject, _):
        outcome = it.measure(subject, SilentProgress(), tmp_path / "s")
    assert outcome.measurement.raw is None and outcome.n_open == 4
    assert str(outcome.measurement.reason).startswith("no value for HumanEval (HumanEval: 4 of 4 ended by endpoint")
    with asked(programmer) as (subject, server):
        again = it.measure(subject, SilentProgress(), tmp_path / "s")
    assert (again.measurement.raw, server.requests) == (0.75, 4)


def test_data_that_no_member_asks_for_is_refused(tmp_path: Path) -> None:
    data = {**write_humaneval(tmp_path)["data"], "a/b": {"path": "c"}}
    with pytest.raises(SpecError, match="data names a/b, of which no member of coding is made"):
        family(tmp_path, suite="coding", data=data, allow_code_execution=True)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"suite": "coding", "roles": {"grader": {"model": "checkpoint"}}},
            "no member of coding asks for a role grader",
        ),
        (
            {"suite": "tool_use", "roles": {"usr": {"model": "checkpoint"}}},
            "no member of tool_use asks for a role usr; they ask for .*user",
        ),
        ({"suite": "coding", "generate": {"temprature": 0}}, "no option 'temprature'; did you mean 'temperature'"),
        (
            {"suite": "tool_use", "generate": {"logit_bias": {"5": 1}}, "roles": {"user": {"model": "checkpoint"}}},
            "tau2's members of tool_use do not take logit_bias",
        ),
        (
            {"suite": "coding", "generate": {"extra_body": {"stream": True}}},
            "holds stream, which a request has already",
        ),
    ],
)
def test_what_no_member_or_not_every_member_can_be_told_is_refused(
    keys: dict[str, Any], words: str, tmp_path: Path
) -> None:
    """Otherwise each member would be left out for it, or would not hear of it."""
    with pytest.raises((SpecError, ValueError), match=words):
        family(tmp_path, **keys)


@needs_port
@no_docker
def test_options_reach_tau2s_members_by_their_names(tmp_path: Path) -> None:
    generate = {"temperature": 0, "stop_seqs": ["x"], "extra_body": {"min_p": 0.1}}
    it = family(tmp_path, suite="tool_use", limit=1, generate=generate, roles={"user": {"model": "checkpoint"}})
    agent = it.members[0].component.config.agent  # type: ignore[union-attr]
    assert agent.args == {"temperature": 0, "stop": ["x"], "min_p": 0.1}


@no_docker
def test_where_no_member_can_run_each_reason_is_said_in_seconds(tmp_path: Path) -> None:
    started = time.process_time()
    with pytest.raises(
        SpecError, match=r"no member of web can run here: Mind2Web: .*AssistantBench: .*BrowseComp: .*Docker"
    ):
        family(tmp_path, suite="web")
    assert time.process_time() - started < 30


@needs_port
@no_docker
def test_tool_use_takes_tau2s_domains_as_ours(tmp_path: Path) -> None:
    it = family(tmp_path, suite="tool_use", limit=1, roles={"user": {"model": "checkpoint"}})
    assert [member.name for member in it.members] == ["tau2 airline", "tau2 retail", "tau2 telecom", "tau2 banking"]
    assert [member.component.config.kind for member in it.members] == ["tau2", "tau2", "tau2", "inspect"]
    assert it.n_items == 4 and it.calls_tools and [*it.missing] == ["BFCL", "GAIA level 1"]
    with pytest.raises(SpecError, match="somebody has to play the user"):
        family(tmp_path, suite="tool_use", limit=1)


def test_the_tables_name_tasks_that_there_are() -> None:
    for members in families().values():
        for keys in members.values():
            assert keys["kind"] == "tau2" or card_of(str(keys["task"]).partition("/")[2]) is not None, keys
