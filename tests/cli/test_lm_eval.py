"""The same fields under stock lm-eval, run as its users run it, give the numbers of `harness score`."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import forked
import pyarrow.parquet as pq
import pytest
import tiny
import yaml

from harness import read_feed
from harness.core.errors import SpecError
from harness.core.vector import ComponentRecord, RewardVector
from harness.tasks.reward_env.lm_eval_task import load

HARNESS = [sys.executable, "-c", "from harness.cli import main; main()"]
STDLIB = ("stdlib_code", "stdlib_prose")
PAPER = ("mmlu_val", "math_train_1500", "github_val_1000")


def rows() -> dict[str, list[dict[str, Any]]]:
    """A few records of the shapes that the paper's data sets have on the hub."""
    capitals = [("France", "Paris"), ("Japan", "東京"), ("Perú", "Lima"), ("Egypt", " Cairo"), ("Chile", "Santiago")]
    return {
        "mmlu_val": [
            {"question": f"What is the capital of {a}?", "subject": "geography", "choices": ["Rome", b], "answer": 1}
            for a, b in capitals
        ],
        "math_train_1500": [
            {
                "problem": f"Compute ${i}^2 + {i}$.",
                "level": "Level 1",
                "type": "Algebra",
                "solution": f"We have ${i}^2 + {i} = \\boxed{{{i * i + i}}}$.",
            }
            for i in range(7)
        ],
        "github_val_1000": [
            {
                "text": f"def f{i}(x):\n    return x + {i}  # héllo 🙂\n\n" * (4 * i + 1),
                "meta": {"redpajama_set_name": "RedPajamaGithub"},
            }
            for i in range(6)
        ],
    }


class Outcome(NamedTuple):
    """One lm-eval run and one harness run on the same checkpoint and fields."""

    results: dict[str, Any]
    samples: dict[str, list[dict[str, Any]]]
    vector: RewardVector
    items: dict[str, dict[str, list[Any]]]

    def ours(self, task: str) -> ComponentRecord:
        return next(component for component in self.vector.components if component.name == task)


def call(command: list[str], folder: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = forked.run(command, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    folder = tmp_path_factory.mktemp("lm_eval")
    tiny.save(folder / "model", tiny.llama())
    files = {}
    for name, records in rows().items():
        files[name] = str(folder / f"{name}.jsonl")
        Path(files[name]).write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")

    tasks = call([*HARNESS, "tasks", "path"], folder).strip()
    model_args = "pretrained=model,dtype=float32,logits_cache=False,revision=main"
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", model_args]
    command += ["--include_path", tasks, "--tasks", "reward_env_stdlib,reward_env", "--device", "cpu"]
    command += ["--batch_size", "1", "--output_path", "theirs", "--log_samples"]
    command += ["--metadata", json.dumps({"data_files": files})]
    call(command, folder)
    (results,) = (folder / "theirs").rglob("results_*.json")
    samples = {}
    for task in (*STDLIB, *PAPER):
        (path,) = results.parent.glob(f"samples_{task}_*.jsonl")
        samples[task] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    components: list[dict[str, Any]] = [{"name": name, "kind": "logprob", "field": name} for name in STDLIB]
    components += [{"name": n, "kind": "logprob", "field": n, "data_files": [files[n]]} for n in PAPER]
    (folder / "spec.yaml").write_text(yaml.safe_dump({"dtype": "float32", "components": components}))
    call([*HARNESS, "score", "model", "--spec", "spec.yaml", "--out", "ours", "--quiet"], folder)
    vector = read_feed(folder / "ours")[0]
    items = {c.name: pq.read_table(folder / "ours" / str(c.detail["items"])).to_pydict() for c in vector.components}
    yield Outcome(json.loads(results.read_text())["results"], samples, vector, items)


@pytest.mark.parametrize("task", [*STDLIB, *PAPER])
def test_every_field_has_the_same_score_per_token_and_per_byte(outcome: Outcome, task: str) -> None:
    theirs, ours, items = outcome.results[task], outcome.ours(task), outcome.items[task]
    assert ours.status == "ok" and ours.n_items == len(outcome.samples[task])
    assert theirs["logprob_per_token,none"] == pytest.approx(ours.raw, abs=1e-5)
    assert theirs["logprob_per_token_stderr,none"] == pytest.approx(ours.stderr, abs=1e-5)
    assert theirs["bits_per_byte,none"] == pytest.approx(ours.detail["bits_per_byte"], abs=1e-5)
    per_byte = [nats / n for nats, n in zip(items["logprob"], items["n_bytes"], strict=True)]
    assert theirs["logprob_per_byte,none"] == pytest.approx(math.fsum(per_byte) / len(per_byte), abs=1e-5)


@pytest.mark.parametrize("task", [*STDLIB, *PAPER])
def test_every_pair_has_the_same_value(outcome: Outcome, task: str) -> None:
    items = outcome.items[task]
    theirs = {sample["doc"]["id"]: sample for sample in outcome.samples[task]}
    assert sorted(theirs) == sorted(items["id"])
    for position, name in enumerate(items["id"]):
        sample = theirs[name]
        assert sample["doc"]["n_tokens"] == items["n_tokens"][position]
        assert sample["doc"]["n_bytes"] == items["n_bytes"][position]
        assert sample["logprob_per_token"] == pytest.approx(items["logprob_per_token"][position], abs=1e-5)


@pytest.mark.parametrize(("group", "members"), [("reward_env_stdlib", STDLIB), ("reward_env", PAPER)])
def test_a_group_reports_the_unweighted_mean_of_its_fields(
    outcome: Outcome, group: str, members: tuple[str, ...]
) -> None:
    mean = math.fsum(float(outcome.ours(name).raw or 0) for name in members) / len(members)
    assert outcome.results[group]["logprob_per_token,none"] == pytest.approx(mean, abs=1e-5)


# What lm-eval calls, without lm-eval.


def config(task: str = "stdlib_code") -> str:
    return str(Path(load.__code__.co_filename).parent / f"{task}.yaml")


def test_the_models_revision_is_not_the_data_sets(tmp_path: Path) -> None:
    tiny.tokenizer().save_pretrained(tmp_path)
    rows = load(config_source=config(), pretrained=str(tmp_path), revision="step1000")["test"]
    assert set(rows.column_names) == {"id", "q", "r", "n_tokens", "n_bytes"} and len(rows) > 50


def test_a_given_tokenizer_wins_over_the_models(tmp_path: Path) -> None:
    tiny.tokenizer().save_pretrained(tmp_path / "own")
    tiny.tokenizer(vocab_size=300).save_pretrained(tmp_path / "given")
    own = load(config_source=config(), pretrained=str(tmp_path / "own"))["test"]["n_tokens"]
    given = load(config_source=config(), pretrained=str(tmp_path / "own"), tokenizer=str(tmp_path / "given"))
    assert sum(given["test"]["n_tokens"]) > sum(own)


def test_a_model_without_a_tokenizer_is_told_how_to_name_one() -> None:
    with pytest.raises(SpecError, match="task stdlib_code: a per-token score needs the model's tokenizer"):
        load(config_source=config())
