"""The folder in which the commands of the pages are run: tiny checkpoints, runs, data and settings under the names that the pages use."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import run_folders
import tiny
import yaml

from harness.cli import run
from harness.engines.scripted.server import ScriptedServer, serving
from harness.tasks.tau2.sources import open_domain
from harness.tau2.simulate.reference_play import ReferencePlay

PAIRS = [{"q": f"What is {i} and 1?", "r": f" It is {i + 1}."} for i in range(8)]


def make(root: Path) -> None:
    """Everything but what tau2 needs."""
    base = tiny.save(root / "base", tiny.llama(0))
    for name, steps in (
        ("runs/sft-7", (100, 200, 300)),
        ("runs/sft-8", (100,)),
        ("runs/new", (100,)),
        ("results/demo/checkpoints/mix-2", (0, 1)),
    ):
        for step in steps:
            tiny.save(root / name / f"checkpoint-{step}", tiny.llama(step + 1))
    for seed, folder in enumerate(
        ("runs/lora-r4/checkpoint-100", "runs/lora-r16/checkpoint-100", "saves/save-100", "saves/save-200")
    ):
        adapter = tiny.save_adapter(root / folder, tiny.lora(tiny.llama(0), seed=seed), base)
        tiny.tokenizer().save_pretrained(adapter)
    _data(root)
    _feeds(root / "results")
    long_ago = 1_600_000_000
    for path in root.rglob("*"):
        os.utime(path, (long_ago, long_ago))  # nothing looks as if it were still written


def _data(root: Path) -> None:
    def write(name: str, value: Any) -> None:
        text = "".join(json.dumps(row) + "\n" for row in value) if name.endswith(".jsonl") else yaml.safe_dump(value)
        (root / name).write_text(json.dumps(value) if name.endswith(".json") else text)

    write("my_pairs.jsonl", PAIRS)
    write(
        "held_out.jsonl",
        [
            {"messages": [{"role": "user", "content": one["q"]}, {"role": "assistant", "content": one["r"]}]}
            for one in PAIRS
        ],
    )
    write(
        "sharegpt.json",
        [
            {"conversations": [{"from": "human", "value": one["q"]}, {"from": "gpt", "value": one["r"]}]}
            for one in PAIRS
        ],
    )
    write("dataset_info.json", {"chats": {"file_name": "sharegpt.json", "formatting": "sharegpt"}})
    hub = {"path": str(root / "rows"), "split": "train", "q": "{{ q }}", "r": "{{ r }}"}
    (root / "rows").mkdir()
    write("rows/train.jsonl", PAIRS)
    write("my_field.yaml", {"task": "my_field", "metadata": {"hub": hub}})
    target = {"name": "code", "kind": "logprob", "field": "my_pairs.jsonl"}
    source = {"name": "prose", "kind": "logprob", "field": "held_out.jsonl", "role": "source"}
    write("spec.yaml", {"components": [target, source]})
    write("sweep.yaml", {"components": [{**target, "name": "sft"}, source]})
    write("gate.yaml", {"roles": {"source": {"max_loss": 0.05}, "target": {"min_gain": 0.1}}})
    write("domains.json", {"sources": ["prose"], "targets": ["code"]})
    (root / "results" / "study").mkdir(parents=True, exist_ok=True)
    write("results/study/weights.json", {"schema": "harness.weights/1", "weights": {"code": 0.7, "prose": 0.3}})


def _feeds(results: Path) -> None:
    def stdlib(seed: int, code: float, prose: float) -> dict[str, Any]:
        made = run_folders.fields(seed, code=code, prose=prose, n=64)
        return {"stdlib_code": made["code"], "stdlib_prose": made["prose"]}

    mixtures = {f"mix-{t}": {"prose": 1 - t / 4, "code": t / 4} for t in range(3)}
    demo = {f"mix-{t}": {step: stdlib(t * 9 + step, 0.2 * step * t, -0.1 * t) for step in range(8)} for t in range(3)}
    run_folders.write_run(results / "demo", demo, mixtures=mixtures)
    for name, shift, steps in (
        ("a", 0.0, (100, 300)),
        ("b", 0.3, (300, 500)),
        ("old", 0.0, (100,)),
        ("new", 0.4, (100,)),
        ("live", 0.0, (2, 4)),
        ("sft-7", 0.1, (100, 200)),
    ):
        run_folders.write_run(
            results / name, {"sft": {step: run_folders.fields(step, code=shift + step / 1000) for step in steps}}
        )
    proxies = {
        f"p-{t}": {step: run_folders.fields(t + step, code=0.1 * t * step, prose=-0.05 * t) for step in (0, 1, 2)}
        for t in range(6)
    }
    shares = {f"p-{t}": {"code": t / 6, "prose": 1 - t / 6} for t in range(6)}
    for name in ("proxies", "large", "target"):
        run_folders.write_run(results / name, proxies, mixtures=shares)


@contextmanager
def simulated(root: Path) -> Iterator[ScriptedServer]:
    """A scripted model for agent and user, and what it has played already under the names that the pages use."""
    play = ReferencePlay(open_domain("mock").tasks())
    with serving(ScriptedServer(play)) as server:
        where = [
            "hosted_vllm/scripted",
            "--agent-api-base",
            server.url,
            "--user-llm",
            "hosted_vllm/scripted",
            "--user-api-base",
            server.url,
        ]
        out = root / "results" / "airline"
        assert (
            run(["tau2", "run", "--domain", "mock", "--num-tasks", "2", "--agent-llm", *where, "--out", str(out)]) == 0
        )
        for name in ("simulations.json", "results.json.gz"):
            assert run(["tau2", "convert", str(out), "-o", str(root / name)]) == 0
        yield server
