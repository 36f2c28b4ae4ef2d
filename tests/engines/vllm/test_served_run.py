"""One spec with every kind of component through the pipeline and a real vLLM server, undisturbed and with the server killed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vllm_here import CPU, needs_vllm, vllm_environment

from harness.checkpoints.find import find_checkpoints
from harness.core.vector import RewardVector
from harness.engines.scripted.server import ScriptedServer, serving
from harness.engines.vllm.guard import descendants
from harness.run.observer import Observer
from harness.run.pipeline import run
from harness.spec.prepared import prepare
from harness.spec.spec import Spec, parse_spec
from harness.tasks.tau2.sources import open_domain
from harness.tau2.simulate.reference_play import ReferencePlay

pytestmark = needs_vllm
LIMIT_S = 300
MAIN = "from harness.cli import main; main()"
KEY_ENV, KEY = "HARNESS_TEST_SERVED_KEY", "sk-of-the-served-run"

CHOICES = """
task: local_choices
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/choices.jsonl}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc}}]
"""
TEXTS = """
task: local_texts
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/texts.jsonl}}}}
output_type: generate_until
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 24, do_sample: false}}
metric_list: [{{metric: exact_match}}]
"""


def write_tasks(folder: Path) -> None:
    folder.mkdir()
    choices = [{"question": f"{n} + 1?", "choices": [str(n), str(n + 1)], "answer": n % 2} for n in range(12)]
    texts = [{"question": f"Hello, task {n}.", "answer": "That is all."} for n in range(24)]
    for name, template, rows in (("choices", CHOICES, choices), ("texts", TEXTS, texts)):
        (folder / f"{name}.yaml").write_text(template.format(folder=folder))
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def full_spec(folder: Path, user: str) -> Spec:
    serve = {
        "api_key_env": KEY_ENV,
        "command": str(vllm_environment()),
        "args": ["--enforce-eager"],
        "env": CPU,
        "max_model_len": 2048,
        "startup_timeout_s": LIMIT_S,
    }
    tau2 = {
        "domain": "mock",
        "user": {"model": "hosted_vllm/scripted", "api_base": user},
        "agent": {"args": {"temperature": 0.0, "max_tokens": 100}},
        "max_steps": 30,
    }
    components: list[dict[str, Any]] = [
        {"name": "mock", "kind": "tau2", **tau2},
        {"name": "texts", "kind": "lm_eval", "task": "local_texts", "include_path": ["tasks"]},
        {"name": "choices", "kind": "lm_eval", "task": "local_choices", "include_path": ["tasks"]},
        {"name": "prose", "kind": "logprob", "field": "stdlib_prose", "limit": 8},
    ]
    return parse_spec({"serve": serve, "components": components}, folder=folder)


@pytest.fixture(scope="module")
def user() -> Iterator[str]:
    """The endpoint of a scripted user."""
    with serving(ScriptedServer(ReferencePlay(open_domain("mock").tasks()))) as server:
        yield server.url


@pytest.fixture(scope="module")
def training(family: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps: a model that calls tools, the same with NaN in it, and with other weights."""
    folder = tmp_path_factory.mktemp("training")
    for step, name in enumerate(("tools", "nan", "noisy"), start=1):
        shutil.copytree(family / name, folder / "sft" / f"checkpoint-{step}")
    write_tasks(folder / "tasks")
    return folder


def servers() -> list[int]:
    """Processes below this one that are vLLM's command, not its guard, which has the command's words too."""
    found = []
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"\0serve\0" in words and b"guard.py" not in words:
                found.append(pid)
    return found


def score(training: Path, out: Path, user: str) -> list[RewardVector]:
    found = find_checkpoints([str(training / "sft")])
    os.environ[KEY_ENV] = KEY
    return list(run(prepare(full_spec(training, user)), found, out=out).feed)


@pytest.fixture(scope="module")
def undisturbed(training: Path, user: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RewardVector]]:
    """The run folder and its vectors."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    return out, score(training, out, user)


def test_one_vector_of_all_kinds(undisturbed: tuple[Path, list[RewardVector]]) -> None:
    out, vectors = undisturbed
    first, broken, last = vectors
    assert [component.name for component in first.components] == ["mock", "texts", "choices", "prose"]
    assert (first.status, broken.status, last.status) == ("ok", "failed", "ok")
    mock = first.components[0]
    assert mock.raw is not None and mock.raw >= 8 / 9, "the model knows the reference plays"
    assert mock.detail["faults"]["infrastructure"] == 0
    (transcripts,) = mock.detail["files"]
    assert len((out / transcripts).read_text().splitlines()) == 9
    assert first.provenance.engine == "vllm+torch" and first.provenance.served == "start"
    assert all("NaN" in (component.reason or "") for component in broken.components)
    assert last.provenance.served in ("reload", "restart") and last.components[3].raw != first.components[3].raw
    assert last.gain is None or last.scalar is not None
    assert servers() == []


def test_the_server_starts_once_for_a_sweep(undisturbed: tuple[Path, list[RewardVector]]) -> None:
    out, vectors = undisturbed
    logs = sorted((out / "serve").glob("*.log"))
    assert len(logs) == 1 + (vectors[-1].provenance.served == "restart"), logs


def test_the_servers_key_is_in_no_file_of_the_run(undisturbed: tuple[Path, list[RewardVector]]) -> None:
    out, _ = undisturbed
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {"rewards.jsonl", "ledger.jsonl", "run.json", "vllm-1.log"} <= {path.name for path in files}
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


@pytest.mark.long  # test_real_server.py kills one, test_checkpoint_server.py in every state
def test_a_server_killed_in_the_middle_changes_no_result(
    undisturbed: tuple[Path, list[RewardVector]], training: Path, user: str, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline and not any(
            path.stat().st_size for path in (tmp_path / "out" / "work").glob("*/simulations.jsonl")
        ):
            time.sleep(0.01)
        for pid in servers():
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    vectors = score(training, tmp_path / "out", user)
    killer.join()
    assert killed
    for vector, before in zip(vectors, undisturbed[1], strict=True):
        assert vector.vector == before.vector
        assert [c.status for c in vector.components] == [c.status for c in before.components]
    assert servers() == []


@pytest.mark.long  # tests/lm_eval plays the same tasks with scripted models
def test_lm_eval_serves_its_own_checkpoint_for_simulations(
    undisturbed: tuple[Path, list[RewardVector]], training: Path, user: str, tmp_path: Path
) -> None:
    given = f"pretrained={training / 'sft' / 'checkpoint-1'},user_llm=hosted_vllm/scripted,user_api_base={user}"
    command = ["lm-eval", "run", "--model", "harness", "--model_args", f"{given},vllm={vllm_environment()}"]
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *command, "--tasks", "tau2_mock", "--output_path", str(tmp_path)],
        env={**os.environ, **CPU},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (results,) = tmp_path.rglob("results_*.json")
    assert json.loads(results.read_text())["results"]["tau2_mock"]["reward,none"] == undisturbed[1][0].components[0].raw
    assert servers() == []


def everywhere(training: Path) -> list[int]:
    """Processes of this machine that serve one of the checkpoints, guards included, whoever is their parent now."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if b"serve" in (words := entry.read_bytes()) and str(training).encode() in words:
                found.append(int(entry.parent.name))
    return found


@pytest.mark.long
def test_on_a_cluster_whose_node_dies_the_vectors_are_the_same_and_no_server_is_left(
    undisturbed: tuple[Path, list[RewardVector]], training: Path, user: str, tmp_path: Path
) -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed")
    from ray.cluster_utils import Cluster as Nodes

    from harness.run.executors.cluster import Cluster, ClusterOptions
    from harness.run.executors.local import Measuring

    few = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    os.environ[KEY_ENV] = KEY
    nodes = Nodes(initialize_head=True, head_node_args={**few, "num_cpus": 0})
    node = nodes.add_node(**few)
    nodes.wait_for_nodes()
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    left: list[list[int]] = []

    class Killing(Observer):
        """Kills the node once the server has answered, and gives another."""

        n_items = 0

        def advance(self, *, items: int, tokens: int) -> None:
            self.n_items += items
            if left or self.n_items < 8 + 12 + 24:
                return
            before = everywhere(training)
            nodes.remove_node(node, allow_graceful=False)
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in before):
                time.sleep(0.1)
            left.extend([before, [pid for pid in before if Path(f"/proc/{pid}").exists()]])
            nodes.add_node(**few)

    try:
        prepared = prepare(full_spec(training, user))
        found = find_checkpoints([str(training / "sft")])
        executor = Cluster(Measuring(prepared), ClusterOptions())
        assert executor.n == 1
        vectors = list(run(prepared, found, out=tmp_path / "out", executor=executor, observer=Killing()).feed)
    finally:
        ray.shutdown()
        nodes.shutdown()
    before, after = left
    assert before and not after, "thirty seconds after its node died nothing of vLLM is left"
    for vector, alone in zip(vectors, undisturbed[1], strict=True):
        assert vector.vector == alone.vector
        assert [c.status for c in vector.components] == [c.status for c in alone.components]
    assert everywhere(training) == []
