"""What a model is told by tools and policies, compared with what upstream's package tells it."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tau2_samples import needs_port, shared

from harness.core.errors import DataError
from harness.core.tau2.message import ToolCall
from harness.core.tau2.task import InitializationData, InitialState
from harness.tasks.tau2 import upstream
from harness.tasks.tau2.environment import Environment
from harness.tasks.tau2.guidelines import read_guidelines
from harness.tasks.tau2.sources import open_domain

needs_upstream = pytest.mark.skipif(not upstream.is_installed(), reason="tau2-bench's own package is not installed")
SOURCES = [pytest.param("inspect_evals", marks=needs_port), pytest.param("tau2", marks=needs_upstream)]


def recorded_calls() -> Iterator[dict[str, Any]]:
    text = gzip.decompress(shared("tau2_tools", "answers.jsonl.gz").read_bytes()).decode()
    yield from map(json.loads, text.splitlines())


@pytest.mark.parametrize("source", SOURCES)
def test_every_recorded_call_is_answered_as_upstream_answers_it(source: str) -> None:
    environments: dict[str, Environment] = {}
    n = 0
    for line in recorded_calls():
        name = line["domain"]
        environment = environments.setdefault(name, open_domain(name, source=source).environment())
        call = ToolCall(id="c", name=line["name"], arguments=line["arguments"], requestor=line["requestor"])
        answer = environment.call(call)
        assert (answer.content, answer.error) == (line["content"], line["error"]), line
        n += 1
    assert n == 666 and len(environments) == 3


@pytest.mark.parametrize("source", SOURCES)
def test_policies_and_tools_are_upstreams_in_every_domain_and_mode(source: str) -> None:
    modes = json.loads(shared("tau2_tools", "policies.json").read_text())
    for mode in modes:
        name, solo = mode["domain"], mode["solo"]
        if name == "banking_knowledge":
            continue  # it needs documents, and its policy depends on the retrieval
        domain = open_domain(name, source=source)
        if "error" in mode:
            with pytest.raises(DataError, match="has no solo mode"):
                domain.policy(solo=solo)
            continue
        text = domain.policy(solo=solo)
        assert (len(text), hashlib.sha256(text.encode()).hexdigest()) == (mode["characters"], mode["sha256"]), mode
        assert [list(domain.tools), list(domain.user_tools)] == [mode["tools"], mode["user_tools"]]


@needs_port
def test_a_data_folders_texts_are_upstreams() -> None:
    data = shared("tau2_tasks")
    for mode in json.loads(shared("tau2_tools", "policies.json").read_text()):
        if mode["domain"] in ("airline", "retail", "mock") and "sha256" in mode:
            text = open_domain(mode["domain"], data=data).policy(solo=mode["solo"])
            assert hashlib.sha256(text.encode()).hexdigest() == mode["sha256"]


@needs_port
@pytest.mark.parametrize("tools", [False, True])
def test_the_users_guidelines_are_upstreams(tools: bool) -> None:
    assert read_guidelines(None, tools=tools) == read_guidelines(shared("tau2_tasks"), tools=tools)


def ask(environment: Environment, name: str, arguments: dict[str, Any], requestor: Any = "assistant") -> str:
    return environment.call(ToolCall(name=name, arguments=arguments, requestor=requestor)).content


@needs_port
def test_telecoms_records_have_numbers_and_truth_values() -> None:
    found = json.loads(ask(open_domain("telecom").environment(), "get_details_by_id", {"id": "L1001"}))
    assert (found["data_used_gb"], found["roaming_enabled"]) == (3.2, False)


@needs_port
def test_product_types_are_sorted() -> None:
    names = list(json.loads(ask(open_domain("retail").environment(), "list_all_product_types", {})))
    assert names == sorted(names) and len(names) == 50


@needs_port
def test_solo_has_the_manual_and_the_workflow_is_a_domain_of_its_own() -> None:
    manual, workflow = open_domain("telecom"), open_domain("telecom-workflow")
    for solo in (False, True):
        assert "# Understanding and Troubleshooting Your Phone's Cellular Service" in manual.policy(solo=solo)
        assert manual.policy(solo=solo) != workflow.policy(solo=solo)
    assert workflow.name == "telecom-workflow" and len(workflow.tasks("base")) == 114
    assert workflow.environment().same_databases(manual.environment())


@needs_port
@pytest.mark.parametrize(
    ("domain", "name", "arguments", "requestor", "words"),
    [
        ("retail", "calculate", {"expression": ""}, "assistant", "invalid syntax (<string>, line 0)"),
        ("retail", "calculate", {"expression": None}, "assistant", "'NoneType' object is not iterable"),
        (
            "airline",
            "calculate",
            {"expression": "1", "self": 2},
            "assistant",
            "Environment.make_tool_call() got multiple values for argument 'self'",
        ),
        (
            "airline",
            "nothing",
            {"self": 2, "requestor": "user"},
            "user",
            "tau2.environment.environment.Environment.make_tool_call() got multiple values for keyword argument 'requestor'",
        ),
        ("telecom", "get_details_by_id", {"id": "X1"}, "assistant", "Unknown ID format or type: X1"),
        (
            "telecom",
            "get_details_by_id",
            {},
            "assistant",
            "TelecomTools.get_details_by_id() missing 1 required positional argument: 'id'",
        ),
    ],
)
def test_errors_have_upstreams_words(domain: str, name: str, arguments: Any, requestor: Any, words: str) -> None:
    assert ask(open_domain(domain).environment(), name, arguments, requestor) == f"Error: {words}"


@needs_port
def test_settings_and_records_with_a_key_that_there_is_not_are_refused() -> None:
    environment = open_domain("telecom").environment()
    before = open_domain("telecom").environment()
    answer = ask(environment, "set_apn_settings", {"apn_settings": {"apn_name": "internet", "apn": "x"}}, "user")
    assert answer.startswith("Error: 1 validation error for APNSettings\napn\n  Extra inputs are not permitted")
    assert environment.same_databases(before)
    assert not ask(environment, "set_apn_settings", {"apn_settings": {"apn_name": "broken"}}, "user").startswith(
        "Error"
    )
    state = InitialState(initialization_data=InitializationData(user_data={"device": {"colour": "red"}}))
    with pytest.raises(ValueError, match="initialization data name 'colour', which no record of this database has"):
        before.initialize(state)


@needs_port
def test_mocks_errors_name_upstreams_records() -> None:
    environment = open_domain("mock").environment()
    answer = ask(environment, "create_task", {"user_id": "user_1", "title": ["x"]})
    assert answer.startswith("Error: 1 validation error for Task\ntitle")
    environment.initialize(InitialState(initialization_data=InitializationData(agent_data={"tasks": {}})))
    assert (
        ask(environment, "check_notifications", {}, "user") == "Error: 'MockDB' object has no attribute 'notifications'"
    )
