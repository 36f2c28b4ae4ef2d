"""tau2 domains as lm-eval tasks, through lm-eval's own command line: the numbers of `harness tau2 run`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import pytest
from tau2_online import plan
from tau2_samples import needs_port

import harness.tasks as package
from harness.cli import run as harness
from harness.core.chat import ChatAnswer, ChatRequest
from harness.core.errors import SpecError
from harness.engines.scripted.server import ScriptedServer, serving
from harness.lm_eval.simulation_args import SimulationArgs
from harness.lm_eval.tau2_order import SimulationOrder, metrics
from harness.tau2.simulate.reference_play import ReferencePlay

pytestmark = needs_port
HARNESS = [sys.executable, "-c", "from harness.cli import main; main()"]
STOCK = [sys.executable, "-m", "lm_eval"]
TASKS = Path(package.__file__).resolve().parent
TRIALS = 2


def call(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    return forked.run(command, cwd=folder, env=environment)


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    play = ReferencePlay(plan("mock").tasks)

    def script(request: ChatRequest) -> ChatAnswer:
        """The reference actions; but on one task nothing is done."""
        text = json.dumps(list(request.messages))
        if "(task: update_task_1)" in text:
            return ChatAnswer(content="No.")
        return play(request)

    with serving(ScriptedServer(script)) as made:
        yield made


def model_args(server: ScriptedServer, **more: Any) -> str:
    values = {
        "agent_llm": "hosted_vllm/a",
        "agent_api_base": server.url,
        "user_llm": "hosted_vllm/u",
        "user_api_base": server.url,
        "num_trials": TRIALS,
        **more,
    }
    return ",".join(f"{name}={value}" for name, value in values.items())


@pytest.fixture(scope="module")
def results(server: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[Any], Path]:
    folder = tmp_path_factory.mktemp("lm_eval")
    command = ["lm-eval", "run", "--model", "harness", "--model_args", model_args(server, simulations="kept")]
    done = call([*HARNESS, *command, "--tasks", "tau2_mock", "--output_path", "out", "--log_samples"], folder)
    assert done.returncode == 0, done.stderr[-3000:]
    (found,) = (folder / "out").rglob("results_*.json")
    (samples,) = (folder / "out").rglob("samples_tau2_mock_*.jsonl")
    lines = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    return json.loads(found.read_text())["results"]["tau2_mock"], lines, folder


def test_the_numbers_are_those_of_a_run(
    server: ScriptedServer, results: tuple[dict[str, Any], list[Any], Path], tmp_path: Path, capsys: Any
) -> None:
    theirs, _, folder = results
    command = ["tau2", "run", "-d", "mock", "--agent-llm", "hosted_vllm/a", "--agent-api-base", server.url, "--quiet"]
    command += ["--user-llm", "hosted_vllm/u", "--user-api-base", server.url, "--num-trials", str(TRIALS)]
    assert harness([*command, "--out", str(tmp_path)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    ours = {row[0]: row[1:] for row in rows if len(row) > 1}
    assert 0 < theirs["reward,none"] < 1, "the script must fail somewhere for this to mean something"
    for name in ("reward", "DB", "ACTION", "COMMUNICATE", "ENV_ASSERTION", "pass^1", "pass^2"):
        assert f"{theirs[f'{name},none']:.4f}" == ours[name][0], name
    assert f"{theirs['reward_stderr,none']:.4f}" == ours["reward"][1]
    assert theirs["unscored,none"] == 0.0 and "NL_ASSERTION,none" not in theirs
    both = [
        sorted(str(untimed(line)) for line in path.read_text(encoding="utf-8").splitlines())
        for path in (folder / "kept" / "tau2_mock" / "simulations.jsonl", tmp_path / "simulations.jsonl")
    ]
    assert both[0] == both[1], "the same transcripts, verdicts and causes"


def untimed(line: str) -> dict[str, Any]:
    return {name: value for name, value in json.loads(line).items() if name not in ("start_time", "duration")}


def test_the_samples_have_the_transcripts(results: tuple[dict[str, Any], list[Any], Path]) -> None:
    _, samples, _ = results
    assert len(samples) == len(plan("mock").tasks)
    for sample in samples:
        answer = json.loads(sample["filtered_resps"][0])
        assert answer["task_id"] == sample["doc"]["id"] and answer["task_revision"].startswith("sha256:")
        assert [one["trial"] for one in answer["simulations"]] == list(range(TRIALS))
        assert all(one["messages"] and "task" not in one for one in answer["simulations"])
        assert sample["reward"] in (0.0, 1.0)


def test_kept_simulations_are_not_played_again_also_from_python(
    server: ScriptedServer, results: tuple[dict[str, Any], list[Any], Path]
) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from harness.lm_eval.model import HarnessLM

    before, (theirs, _, folder) = server.requests, results
    where = {"agent_api_base": server.url, "user_api_base": server.url, "simulations": str(folder / "kept")}
    model = HarnessLM(agent_llm="hosted_vllm/a", user_llm="hosted_vllm/u", **where)
    tasks = TaskManager(include_defaults=False, include_path=str(TASKS), metadata={"num_trials": TRIALS})
    again = simple_evaluate(model, tasks=["tau2_mock"], task_manager=tasks, bootstrap_iters=1)
    for name in ("reward,none", "DB,none", "pass^2,none", "reward_stderr,none"):
        assert again["results"]["tau2_mock"][name] == theirs[name], name
    assert server.requests == before


def test_another_model_says_that_it_cannot_and_which_can(tmp_path: Path) -> None:
    done = call([*STOCK, "run", "--model", "dummy", "--include_path", str(TASKS), "--tasks", "tau2_mock"], tmp_path)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "DummyLM has no `simulate`" in last and "--model harness" in last


NOWHERE = {"agent_llm": "hosted_vllm/a", "agent_api_base": "http://127.0.0.1:1/v1", "attempts": 1}


def test_an_endpoint_that_is_gone_is_one_clear_line(tmp_path: Path, capsys: Any) -> None:
    gone = {**NOWHERE, "user_llm": "hosted_vllm/u", "user_api_base": "http://127.0.0.1:1/v1"}
    arguments = ",".join(f"{name}={value}" for name, value in gone.items())
    assert harness(["lm-eval", "run", "--model", "harness", "--model_args", arguments, "--tasks", "tau2_mock"]) == 6
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("harness: error: tau2_mock: no simulation has a reward (") and "127.0.0.1" in last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (NOWHERE, "tau2_mock: name the model that plays the user with user_llm="),
        ({"user_llm": "hosted_vllm/u"}, r"needs a checkpoint \(pretrained=DIR\), or an agent"),
        ({**NOWHERE, "agent_api_key_env": "NOT_THERE"}, "variable NOT_THERE is not set"),
        ({**NOWHERE, "max_concurrency": 0}, "max_concurrency: Input should be greater than or equal to 1, not 0"),
        ({**NOWHERE, "max_concurency": 4}, "knows no argument 'max_concurency'"),
        ({**NOWHERE, "agent_llm_args": "{"}, "agent_llm_args '{' is not valid JSON"),
        ({**NOWHERE, "agent_llm_args": '{"api_key": "k"}'}, "agent_llm_args: holds an api_key"),
    ],
)
def test_what_is_wrong_with_the_arguments_is_said_before_anybody_is_asked(arguments: Any, message: str) -> None:
    from harness.lm_eval.model import HarnessLM

    made = plan("mock", "create_task_1")
    order = SimulationOrder(game="tau2_mock", task_id="create_task_1", plan=made)
    with pytest.raises(SpecError, match=message):
        HarnessLM(**arguments).simulate([SimpleNamespace(args=("", order))])


def test_a_checkpoint_that_cannot_be_served_is_said_before_anybody_is_asked() -> None:
    arguments = SimulationArgs.taken_from({"user_llm": "hosted_vllm/u"}, pretrained="runs/ckpt")
    with pytest.raises(SpecError, match=r"runs/ckpt is no model folder.*agent_llm="), arguments.players():
        pass


@pytest.mark.parametrize(("named", "ids"), [("create_task_1;update_task_1", 2), (["create_task_1"], 1), (None, 9)])
def test_what_is_played_is_said_among_the_model_arguments(named: Any, ids: int) -> None:
    from harness.lm_eval.model import HarnessLM
    from harness.lm_eval.tau2_task import Tau2Task

    arguments = {"task_ids": named, "num_trials": 3, "greeting": "hide", "upstream": "ends;replay", "seed": 7}
    HarnessLM(agent_llm="hosted_vllm/a", **arguments)
    made = Tau2Task(config={"task": "tau2_mock", "metadata": {"domain": "mock", "version": 1.0, **arguments}}).plan
    assert (len(made.tasks), made.trials, made.greeting, made.seed) == (ids, 3, "hide", 7)
    assert made.upstream.names() == ["ends", "replay"]


@pytest.mark.parametrize("name", ["num_trials", "seed"])
def test_what_is_no_number_is_one_clear_line(name: str) -> None:
    from harness.lm_eval.tau2_task import Tau2Task

    with pytest.raises(SpecError, match=f"{name}: Input should be a valid integer.*not 'many'"):
        Tau2Task(config={"task": "tau2_mock", "metadata": {"domain": "mock", name: "many"}})


def test_solo_needs_no_user() -> None:
    from harness.lm_eval.model import HarnessLM
    from harness.lm_eval.tau2_task import Tau2Task

    task = Tau2Task(config={"task": "tau2_mock", "metadata": {"domain": "mock", "solo": True}})
    task.build_all_requests()
    with serving(ScriptedServer(ReferencePlay(task.plan.tasks))) as made:
        model = HarnessLM(agent_llm="hosted_vllm/a", agent_api_base=made.url)
        answers = [json.loads(answer) for answer in model.simulate(task.instances)]
    assert answers and all(one["simulations"][0]["termination_reason"] == "agent_stop" for one in answers)


def test_a_model_without_a_checkpoint_scores_nothing() -> None:
    from harness.lm_eval.model import HarnessLM

    model = HarnessLM(agent_llm="hosted_vllm/a")
    for method in (model.loglikelihood, model.loglikelihood_rolling, model.generate_until):
        with pytest.raises(SpecError, match="none is loaded; give pretrained=DIR beside agent_llm"):
            method([])


def test_what_has_no_reward_is_in_no_mean() -> None:
    info = {"reward": 1.0, "reward_breakdown": {"DB": 1.0}, "reward_basis": ["DB"]}
    lines = [{"reward_info": info, "reason": None}, {"reward_info": None, "reason": "gone"}]
    found = metrics({"task_id": "a", "n_trials": 3, "simulations": lines})
    assert found["reward"] == 1.0 and found["DB"] == 1.0 and "ACTION" not in found
    assert found["unscored"] == pytest.approx(2 / 3)
    assert (found["pass^1"], found["pass^2"]) == (1.0, None)
    assert "reward" not in metrics({"task_id": "a", "n_trials": 1, "simulations": []})
