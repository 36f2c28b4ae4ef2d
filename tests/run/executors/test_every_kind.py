"""Log-probs, a task of lm-eval and tau2 over a server's answers, on full, LoRA and broken checkpoints: whoever measures, one feed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from fake_server import command, write_task
from tau2_samples import needs_port

from harness.cli import run as cli
from harness.core.errors import EXIT_INCOMPLETE
from harness.engines.scripted.server import ScriptedServer, serving
from harness.tasks.tau2.sources import open_domain
from harness.tau2.simulate.reference_play import ReferencePlay

pytestmark = [pytest.mark.slow, needs_port]


def write(folder: Path, user: str) -> None:
    """Checkpoints, tasks, and a spec with a server that answers by a number beside the weights."""
    places = [tiny.save(folder / "mix" / f"checkpoint-{step}", tiny.llama(step)) for step in range(3)]
    places.append(tiny.save_adapter(folder / "lora" / "checkpoint-1", tiny.lora(tiny.llama(0), 1), places[0]))
    broken = tiny.save(folder / "mix" / "checkpoint-3", tiny.llama(3))
    for number, place in enumerate([*places, broken]):
        (place / "weights.json").write_text(str(number))
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    write_task(folder)
    (folder / "field.jsonl").write_text("".join(f'{{"q": "a {i}", "r": " is {i * i}"}}\n' for i in range(9)))
    env = {"FAKE": json.dumps({"answers": str(folder / "asked")})}
    tau2 = {"domain": "mock", "task_ids": ["create_task_1", "update_task_1"], "max_steps": 6}
    components: list[dict[str, Any]] = [
        {"name": "prose", "kind": "logprob", "field": "field.jsonl"},
        {"name": "says", "kind": "lm_eval", "task": "says", "include_path": ["."]},
        {"name": "mock", "kind": "tau2", **tau2, "user": {"model": "hosted_vllm/scripted", "api_base": user}},
    ]
    serve = {"command": str(command(folder)), "env": env, "verify": False, "startup_timeout_s": 60}
    (folder / "spec.yaml").write_text(json.dumps({"serve": serve, "components": components}))


def score(folder: Path, out: Path, *options: str) -> list[dict[str, Any]]:
    """The vectors, but for times, who measured, and whether its server had to start."""
    sources = [str(folder / "mix"), str(folder / "lora")]
    code = cli(["score", *sources, "--spec", str(folder / "spec.yaml"), "--out", str(out), "--quiet", *options])
    assert code == EXIT_INCOMPLETE, "one of them is broken"
    return feed(out)


def feed(out: Path) -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = [json.loads(line) for line in (out / "rewards.jsonl").read_text().splitlines()]
    for vector in vectors:
        vector["provenance"] |= {"started": "", "seconds": 0.0, "executor": "", "served": ""}  # a start or a swap
    return vectors


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("kinds")
    with serving(ScriptedServer(ReferencePlay(open_domain("mock").tasks()))) as user:
        write(folder, user.url)
        yield folder


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return score(folder, tmp_path_factory.mktemp("alone"))


def test_every_kind_has_a_value_and_the_broken_checkpoint_none(alone: list[dict[str, Any]]) -> None:
    assert [vector["status"] for vector in alone] == ["ok", "ok", "ok", "failed", "ok"]
    for vector in alone:
        assert [one["raw"] is None for one in vector["components"]] == [vector["status"] == "failed"] * 3


def test_processes(folder: Path, alone: list[dict[str, Any]], tmp_path: Path) -> None:
    assert score(folder, tmp_path, "--workers", "2") == alone


def test_shards(folder: Path, alone: list[dict[str, Any]], tmp_path: Path) -> None:
    for number in (1, 2):
        sources = [str(folder / "mix"), str(folder / "lora")]
        options = ["--spec", str(folder / "spec.yaml"), "--out", str(tmp_path / str(number)), "--quiet"]
        cli(["score", *sources, *options, "--shard", f"{number}/2"])
    cli(["merge", str(tmp_path / "out"), str(tmp_path / "1"), str(tmp_path / "2")])
    assert feed(tmp_path / "out") == alone


def test_a_cluster(folder: Path, alone: list[dict[str, Any]], tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    from ray_nodes import two_nodes

    with two_nodes():
        assert score(folder, tmp_path, "--workers", "ray") == alone
