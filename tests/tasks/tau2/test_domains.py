"""What a domain offers, where it comes from, and what is said when it is not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from tau2_samples import NAMES, needs_port

import harness
from harness.core.errors import DataError
from harness.core.tau2.message import ToolCall
from harness.tasks.tau2 import port
from harness.tasks.tau2.domain import schemas
from harness.tasks.tau2.sources import open_domain

ROOT = Path(harness.__file__).resolve().parents[1]


@needs_port
@pytest.mark.parametrize("name", NAMES)
def test_every_tool_has_a_description_and_a_valid_schema(name: str) -> None:
    domain = open_domain(name)
    for description in schemas({**domain.tools, **domain.user_tools}):
        function = description["function"]
        assert description["type"] == "function" and len(function["description"]) > 8, function["name"]
        jsonschema.Draft202012Validator.check_schema(function["parameters"])
        for parameter, schema in function["parameters"]["properties"].items():
            assert schema.get("description") or name == "telecom", (function["name"], parameter)


@needs_port
@pytest.mark.parametrize(("name", "n"), [("airline", 14), ("retail", 16), ("telecom", 13), ("mock", 4)])
def test_the_agent_has_upstreams_tools(name: str, n: int) -> None:
    domain = open_domain(name)
    assert len(domain.tools) == n
    assert len(domain.user_tools) == {"telecom": 30, "mock": 2}.get(name, 0)


@needs_port
def test_splits_and_policies() -> None:
    telecom = open_domain("telecom")
    assert {split: len(telecom.tasks(split)) for split in telecom.splits()} == {
        "small": 20,
        "train": 74,
        "test": 40,
        "full": 2285,
        "base": 114,
    }
    assert telecom.policy() != telecom.policy(solo=True)
    assert telecom.policy().startswith("<main_policy>\n")
    with pytest.raises(DataError, match="no split 'nope'; it has small"):
        telecom.tasks("nope")
    with pytest.raises(DataError, match="airline has no solo mode"):
        open_domain("airline").policy(solo=True)


@needs_port
def test_an_item_is_found_by_its_id() -> None:
    environment = open_domain("retail").environment()
    products = environment.agent.target.db.products
    with environment.agent.target.db.read_only():
        item = next(variant for product in products.values() for variant in product.variants)
    answer = environment.call(ToolCall(name="get_item_details", arguments={"item_id": item}))
    assert not answer.error and f'"item_id": "{item}"' in answer.content
    missing = environment.call(ToolCall(name="get_item_details", arguments={"item_id": "0"}))
    assert missing.error and missing.content == "Error: Item not found"
    assert not products.touched


@needs_port
@pytest.mark.parametrize("name", NAMES)
def test_environments_share_nothing_that_can_change(name: str) -> None:
    domain = open_domain(name)
    one, other = domain.environment(), domain.environment()
    assert one.same_databases(other)
    calls = {
        "airline": ToolCall(name="cancel_reservation", arguments={"reservation_id": "EHGLP3"}),
        "retail": ToolCall(
            name="cancel_pending_order", arguments={"order_id": "#W5918442", "reason": "no longer needed"}
        ),
        "telecom": ToolCall(name="toggle_airplane_mode", arguments={}, requestor="user"),
        "mock": ToolCall(name="create_task", arguments={"user_id": "user_1", "title": "x"}),
    }
    assert not one.call(calls[name]).error
    assert not one.same_databases(other) and other.same_databases(domain.environment())


@needs_port
def test_solo_gives_the_agent_both_tool_sets() -> None:
    domain = open_domain("telecom")
    call = ToolCall(name="toggle_airplane_mode", arguments={})
    assert domain.environment().call(call).content == "Error: Tool 'toggle_airplane_mode' not found."
    solo = domain.environment(solo=True)
    assert not solo.call(call).error
    assert solo.call(ToolCall(name="toggle_data", arguments={}, requestor="user")).error


def test_an_unknown_domain_is_named() -> None:
    with pytest.raises(DataError, match=r"unknown tau2 domain 'bank'; this version has airline, retail, telecom, mock"):
        open_domain("bank")


@needs_port
def test_a_data_folder_without_the_domain_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no folder 'mock'; `data` takes the folder"):
        open_domain("mock", data=tmp_path).tasks()


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    return done.stdout.strip()


@needs_port
def test_the_port_is_loaded_without_inspect_and_leaves_nothing_behind() -> None:
    code = (
        "import sys; from harness.tasks.tau2.sources import open_domain\n"
        "for name in ('airline', 'retail', 'telecom'): open_domain(name).environment()\n"
        "print([name for name in sys.modules if name.startswith(('inspect_ai', 'inspect_evals'))])"
    )
    assert run(code) == "[]"


@needs_port
def test_the_port_as_it_is_gives_the_same_classes() -> None:
    """The way taken for a version of the port that the stand-ins do not suffice for."""
    light = port.modules("airline")["AirlineAgentTools"].AirlineAgentTools
    code = (
        "from harness.tasks.tau2 import port\n"
        "store_class = port._import('airline')['AirlineAgentTools'].AirlineAgentTools\n"
        "print(sorted(name for name in vars(port.plain_class(store_class)) if not name.startswith('__')))\n"
        "print(port.instance(store_class, 7).db)"
    )
    names = sorted(name for name in vars(port.plain_class(light)) if not name.startswith("__"))
    assert run(code) == f"{names}\n7"


def package(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").touch()
    return str(folder)


def test_an_unrelated_tau2_is_recognised(tmp_path: Path) -> None:
    code = "import sys; sys.path.insert(0, {!r}); from harness.tasks.tau2 import upstream; print(upstream.unrelated())"
    unrelated = package(tmp_path / "a", "tau2", "tau2/fit")
    assert "about magnetic relaxation, not tau2-bench" in run(code.format(unrelated))
    related = package(tmp_path / "b", "tau2", "tau2/domains")
    assert run(code.format(related)) == ""


def test_a_missing_port_says_how_to_install_it(tmp_path: Path) -> None:
    empty = package(tmp_path, "inspect_evals")
    code = (
        f"import sys; sys.path.insert(0, {empty!r})\n"
        "from harness.tasks.tau2.sources import open_domain\n"
        "from harness.core.errors import DataError\n"
        "try: open_domain('airline').tasks()\n"
        "except DataError as error: print(error)"
    )
    assert "run: pip install 'inspect-evals>=" in run(code)
