"""kind: tau2 in a spec: the same numbers as `harness tau2 run`, every simulation kept, what failed for others' reasons open."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tau2_samples import needs_port, shared

from harness.core.chat import ChatAnswer, Usage
from harness.core.component import SilentProgress
from harness.core.endpoint import Endpoint
from harness.core.errors import EngineError, SpecError
from harness.engines.scripted.server import ScriptedServer, serving
from harness.engines.scripted.trouble import Trouble
from harness.spec.prepared import prepare
from harness.spec.spec import parse_spec
from harness.tau2.runs.folder import SIMULATIONS
from harness.tau2.simulate.reference_play import ReferencePlay

pytestmark = needs_port
TASKS = ["create_task_1", "update_task_1"]


class Served:
    """A subject that is on a server; `asked` counts how often somebody wanted to know where."""

    def __init__(self, *places: str | Exception) -> None:
        self._places = list(places)
        self.asked = 0

    def endpoint(self) -> Endpoint:
        self.asked += 1
        place = self._places[min(self.asked, len(self._places)) - 1]
        if isinstance(place, Exception):
            raise place
        return Endpoint(api_base=place, model="scripted", how="external")

    def model(self) -> Any:
        raise NotImplementedError

    tokenizer = model

    def tokenizer_id(self) -> str:
        return "sha256:0"


def component(**changes: Any) -> Any:
    keys = {"domain": "mock", "task_ids": TASKS, "trials": 2, "user": {"model": "checkpoint"}, **changes}
    return prepare(parse_spec({"components": [{"name": "mock", "kind": "tau2", **keys}]})).components[0]


@contextmanager
def server(made: Any, *troubles: Trouble) -> Iterator[ScriptedServer]:
    with serving(ScriptedServer(ReferencePlay(made.plan.tasks), troubles=troubles)) as running:
        yield running


def test_reference_play_is_worth_one(tmp_path: Path) -> None:
    made = component()
    with server(made) as running:
        outcome = made.measure(Served(running.url), SilentProgress(), tmp_path / "work")
    measurement = outcome.measurement
    assert (measurement.raw, measurement.status, measurement.n_items, measurement.n_scored) == (1.0, "ok", 4, 4)
    assert measurement.detail["pass_hat"] == {"1": 1.0, "2": 1.0}
    assert measurement.detail["breakdown"]["DB"] == {"mean": 1.0, "stderr": 0.0, "n_applicable": 4}
    assert measurement.detail["tokens"]["agent"] > 0 and outcome.n_open == 0
    assert outcome.items["id"] == ["create_task_1-0", "update_task_1-0", "create_task_1-1", "update_task_1-1"]
    assert outcome.items["reward"] == [1.0] * 4
    assert outcome.files == (SIMULATIONS,) and (tmp_path / "work" / SIMULATIONS).exists()
    assert (outcome.engine.name, outcome.engine.served) == ("vllm", "external")


def test_a_killed_measurement_repeats_no_simulation(tmp_path: Path) -> None:
    made = component(max_concurrency=1)
    with server(made) as running:
        whole = made.measure(Served(running.url), SilentProgress(), tmp_path / "whole")
        path = tmp_path / "work" / SIMULATIONS
        made.measure(Served(running.url), SilentProgress(), tmp_path / "work")
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:3]) + lines[3][:40])  # killed while the fourth was being written
        before = running.requests
        again = made.measure(Served(running.url), SilentProgress(), tmp_path / "work")
        assert running.requests - before == before / 8  # one of eight simulations so far
    assert again.measurement == whole.measurement
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()][:3] == [
        json.loads(line)["id"] for line in lines[:3]
    ]


def test_a_server_that_moves_is_found_again(tmp_path: Path) -> None:
    made = component()
    gone = "http://127.0.0.1:9/v1"  # nobody listens there
    with server(made) as running:
        subject = Served(gone, gone, running.url)
        outcome = made.measure(subject, SilentProgress(), tmp_path / "work")
    assert outcome.measurement.raw == 1.0 and subject.asked >= 3


def test_a_server_that_is_gone_for_good_is_the_cause(tmp_path: Path) -> None:
    made = component()
    gone = "http://127.0.0.1:9/v1"
    with pytest.raises(EngineError, match="died three times"):
        made.measure(
            Served(gone, gone, EngineError("the server died three times")), SilentProgress(), tmp_path / "work"
        )


def test_what_the_endpoint_refused_stays_open(tmp_path: Path) -> None:
    made = component()
    refused = Trouble(kind="401", when=lambda number, request: number % 2 == 0)
    with server(made, refused) as running:
        outcome = made.measure(Served(running.url), SilentProgress(), tmp_path / "work")
    measurement = outcome.measurement
    n_failed = measurement.n_items - measurement.n_scored
    assert n_failed > 0 and outcome.n_open == n_failed
    assert measurement.detail["faults"]["infrastructure"] == n_failed
    assert "failed by infrastructure (HTTP 401: " in (measurement.reason or "")
    assert set(outcome.items["status"]) <= {"ok", "failed"} and "failed" in outcome.items["status"]
    with server(made) as running:
        again = made.measure(Served(running.url), SilentProgress(), tmp_path / "work")
    assert again.measurement.status == "ok" and again.measurement.raw == 1.0


def test_an_agent_that_does_nothing_is_at_fault(tmp_path: Path) -> None:
    made = component(trials=1, user={"model": "checkpoint"}, max_steps=6)
    with server(
        made, Trouble(kind="null", when=lambda _, request: "<policy>" in request.messages[0]["content"])
    ) as running:
        outcome = made.measure(Served(running.url), SilentProgress(), tmp_path / "work")
    assert outcome.measurement.raw == 0.0 and outcome.measurement.status == "ok"
    assert outcome.measurement.detail["faults"] == {"agent": 2, "user": 0, "judge": 0, "infrastructure": 0}
    assert set(outcome.items["fault"]) == {"agent"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"user": None}, "name the user's model"),
        ({"solo": True}, "`solo` has no user"),
        ({"domain": "hotel"}, "hotel"),
        ({"trials": 100_000_000}, "trials: Input should be less than or equal to 10000"),
        ({"task_ids": ["nowhere"]}, "unknown task 'nowhere'"),
        ({"user": {"model": "hosted_vllm/x"}}, "needs the address"),
        ({"user": {"model": "hosted_vllm/x", "api_base": "http://h/v1", "api_key_env": "NO_SUCH_KEY"}}, "NO_SUCH_KEY"),
        ({"user": {"model": "checkpoint", "args": {"api_key": "s"}}}, "api_key_env"),
        ({"agent": {"args": {"api_key": "s"}}}, "api_key_env"),
        ({"agent": {"args": {"model": "better", "stream": True}}}, "agent.args: holds model, stream"),
        ({"greeting": "shout"}, "greeting"),
        ({"upstream": ["nothing"]}, "'nothing' is unknown; it takes all or instructions"),
        ({"source": "elsewhere"}, "source"),
        ({"retrieval": "bm25"}, "domain mock retrieves nothing"),
        ({"reviewer": {"model": "hosted_vllm/x"}}, "needs the address"),
        ({"trails": 2}, "did you mean 'trials'"),
    ],
)
def test_a_mistake_is_said_before_anything_runs(changes: dict[str, Any], words: str) -> None:
    from harness.core.errors import HarnessError

    with pytest.raises(HarnessError, match=words) as caught:
        component(**changes)
    assert "\n" not in str(caught.value)


def test_the_definition_is_over_what_decides_the_number() -> None:
    base = component().definition
    assert component(max_concurrency=3, request_timeout_s=9.0).definition == base
    for changes in ({"trials": 3}, {"seed": 1}, {"agent": {"args": {"temperature": 1.0}}}, {"task_ids": TASKS[:1]}):
        assert component(**changes).definition != base, changes
    moved = {"model": "hosted_vllm/u", "api_base": "http://a/v1"}
    other = {**moved, "api_base": "http://b/v1"}
    assert component(user=moved).definition == component(user=other).definition != base


@pytest.mark.parametrize(
    "changes",
    [
        {"greeting": "hide"},
        {"upstream": ["exclusions"]},
        {"upstream": ["ends,replay"]},
        {"reviewer": {"model": "checkpoint"}},
    ],
    ids=str,
)
def test_what_may_move_a_number_is_in_the_definition(changes: dict[str, Any]) -> None:
    assert component(**changes).definition != component().definition


def test_another_database_is_another_definition(tmp_path: Path) -> None:
    def definition(folder: str, name: str) -> dict[str, Any]:
        path = tmp_path / folder / "mock" / "db.json"
        path.parent.mkdir(parents=True)
        user = {"user_id": "user_1", "name": name, "tasks": []}
        path.write_text(json.dumps({"tasks": {}, "users": {"user_1": user}}))
        found: dict[str, Any] = component(task_ids=TASKS[:1], data=str(tmp_path / folder)).definition
        return found

    first = definition("a", "Ann")
    assert definition("b", "Ann") == first, "what is there decides, not where"
    assert definition("c", "Bob") != first != component(task_ids=TASKS[:1]).definition


def test_a_judge_that_must_be_there_is_missed_before_anything_is_served() -> None:
    keys = {"domain": "retail", "task_ids": [], "data": str(shared("tau2_tasks")), "upstream": ["judge-required"]}
    with pytest.raises(SpecError, match=r"judge-required: 40 task.*nl_judge"):
        component(**keys)
    assert component(**keys, nl_judge={"model": "checkpoint"}).n_items


def test_what_upstream_would_leave_out_is_said_and_not_taken_up_again(tmp_path: Path) -> None:
    made = component(trials=1, upstream=["exclusions"])
    silent = Trouble(kind="null", when=lambda _, request: "<policy>" in request.messages[0]["content"])
    with server(made, silent) as running:
        outcome = made.measure(Served(running.url), SilentProgress(), tmp_path / "work")
    assert (outcome.measurement.status, outcome.measurement.raw, outcome.n_open) == ("failed", None, 0)
    assert outcome.measurement.reason == "of 2 simulations 2 left out as upstream would"
    assert outcome.items["status"] == ["excluded"] * 2


def test_a_review_decides_whose_fault_it_is_and_is_paid_for(tmp_path: Path) -> None:
    found = {"error_tags": ["premature_termination"], "severity": "critical_hindered"}
    review = {"errors": [{"source": "user", "turn_idx": 1, "reasoning": "It left.", **found}], "summary": "s"}
    answer = ChatAnswer(content=json.dumps(review), usage=Usage(prompt_tokens=5, completion_tokens=2))
    with serving(ScriptedServer(lambda _: answer)) as critic:
        reviewer = {"model": "hosted_vllm/critic", "api_base": critic.url}
        made = component(trials=1, max_steps=2, reviewer=reviewer)
        with server(made) as running:
            outcome = made.measure(Served(running.url), SilentProgress(), tmp_path / "work")
    assert outcome.items["reward"] == [0.0, 0.0] and outcome.items["fault"] == ["user", "user"]
    assert outcome.measurement.detail["n_without_user_faults"] == 0
    assert outcome.measurement.detail["tokens"]["reviewer"] == 14
    assert outcome.items["review_failure"] == [None, None]


def test_checks_ask_the_user_model() -> None:
    with serving(ScriptedServer(lambda _: ChatAnswer(content="yes"))) as running:
        there = component(user={"model": "hosted_vllm/u", "api_base": running.url}, task_ids=[])
        found = {check.name: check for check in there.checks()}
    assert found["tau2 mock"].ok and found["tau2 mock user"].ok
    gone = component(user={"model": "hosted_vllm/u", "api_base": "http://127.0.0.1:9/v1"})
    (refused,) = [check for check in gone.checks() if check.name == "tau2 mock user"]
    assert refused.ok is False and "does not answer" in refused.words


def test_tasks_that_nobody_judges_are_warned_of() -> None:
    keys = {"domain": "retail", "task_ids": [], "data": str(shared("tau2_tasks"))}
    (judge,) = [check for check in component(**keys).checks() if check.name == "tau2 retail judge"]
    assert judge.ok is None and judge.words.startswith("40 task(s)") and "nl_judge" in judge.words
    assert len(list(component(**keys, nl_judge={"model": "checkpoint"}).checks())) == 1


def test_a_live_model_is_refused() -> None:
    from harness.run.live import RewardEnvironment

    spec = parse_spec({"components": [{"name": "mock", "kind": "tau2", "domain": "mock", "solo": True}]})
    with pytest.raises(SpecError, match="mock need a checkpoint on a server"):
        RewardEnvironment(spec)
