"""Kill -9 at any moment: the same command again goes on, and the feed ends as if nothing had happened."""

from __future__ import annotations

import itertools
import json
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import forked
import pyarrow.parquet as pq
import pytest
import tiny

from harness.cli import run

# A job in the background ignores Ctrl-C, and so would what it starts.
INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
HARNESS = [sys.executable, "-c", f"{INTERRUPTIBLE}; from harness.cli import main; main()"]


def write_field(path: Path, n: int = 24) -> Path:
    rows = [{"q": f"Question {i}: what comes after {i}?", "r": f" The number {i + 1}, of course."} for i in range(n)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four checkpoints of one training, one of them broken, and a spec with two fields."""
    folder = tmp_path_factory.mktemp("resume")
    tok = tiny.tokenizer()
    for step in (10, 20, 30, 40):
        tiny.save(folder / "runs" / "sft" / f"checkpoint-{step}", tiny.llama(step), tok)
    weights = folder / "runs" / "sft" / "checkpoint-30" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    write_field(folder / "a.jsonl")
    write_field(folder / "b.jsonl", 9)
    (folder / "spec.yaml").write_text(
        "batch_tokens: 64\ncomponents:\n"
        "  - {name: a, kind: logprob, field: a.jsonl, role: source}\n"
        "  - {name: b, kind: logprob, field: b.jsonl, role: target}\n",
        encoding="utf-8",
    )
    return folder


def score(place: Path, out: str, *more: str) -> forked.Popen:
    command = [*HARNESS, "score", "runs/sft", "--spec", "spec.yaml", "--out", out, *more]
    return forked.Popen(command, cwd=place)


def timeless(path: Path) -> list[dict[str, Any]]:
    vectors = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for vector in vectors:
        del vector["provenance"]["started"], vector["provenance"]["seconds"]
    return vectors


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> list[dict[str, Any]]:
    process = score(place, "whole")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 8, err
    vectors = timeless(place / "whole" / "rewards.jsonl")
    assert [v["status"] for v in vectors] == ["ok", "ok", "failed", "ok"]
    assert "truncated" in vectors[2]["components"][0]["reason"]
    return vectors


CRASHING = """
import os, random, signal, sys
from pathlib import Path
import harness.engines.scoring.score, peft, transformers.models.llama.modeling_llama
from harness.checkpoints.find import find_checkpoints
from harness.run.observer import Observer
from harness.run.pipeline import run
from harness.spec.prepared import prepare
from harness.spec.spec import load_spec

class Dying(Observer):
    def __init__(self, events):
        self.events = events
    def tick(self):
        self.events -= 1
        if self.events == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    def opening(self, checkpoint):
        self.tick()
    def advance(self, *, items, tokens):
        self.tick()
    def finished(self, vector, *, new):
        self.tick()

def attempt(events):
    child = os.fork()
    if child == 0:
        run(prepare(load_spec("spec.yaml")), find_checkpoints(["runs/sft"]), out=Path("crashed"), observer=Dying(events))
        os._exit(0)
    return os.waitpid(child, 0)[1]

deaths, events = 0, 1
while attempt(events):
    deaths += 1
    events += 3
print(deaths)
"""


@pytest.mark.slow
def test_a_run_killed_between_any_two_events_ends_with_the_same_feed(
    place: Path, undisturbed: list[dict[str, Any]]
) -> None:
    done = forked.run([sys.executable, "-c", CRASHING], cwd=place, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 8, "the run must have died many times for this to mean something"
    crashed = timeless(place / "crashed" / "rewards.jsonl")
    for vector, whole in zip(crashed, undisturbed, strict=True):
        for mine, theirs in zip(vector["components"], whole["components"], strict=True):
            assert mine["raw"] == pytest.approx(theirs["raw"], abs=1e-6)
    # Bit for bit against a run of as many threads.
    alone = forked.run([*HARNESS, "score", "runs/sft", "--spec", "spec.yaml", "--out", "alone", "--quiet"], cwd=place)
    assert alone.returncode == 8, alone.stderr
    assert crashed == timeless(place / "alone" / "rewards.jsonl")


def test_the_command_killed_while_it_writes_continues_and_counts_nothing_twice(
    place: Path, undisturbed: list[dict[str, Any]]
) -> None:
    ledger = place / "killed" / "ledger.jsonl"
    dice = random.Random(0)
    for lines in (1, 4):
        process = score(place, "killed")
        while process.poll() is None and (not ledger.exists() or ledger.read_bytes().count(b"\n") < lines):
            time.sleep(0.002)
        time.sleep(dice.random() * 0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = score(place, "killed")
    _out, err = process.communicate(timeout=120)
    assert process.returncode == 8, err
    assert timeless(place / "killed" / "rewards.jsonl") == undisturbed
    entries = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
    assert len({entry["key"] for entry in entries}) == len(entries) == 6
    for entry in entries:
        table = pq.read_table(place / "killed" / entry["items"])
        assert table.num_rows == entry["measurement"]["n_items"]


def test_a_finished_run_started_again_changes_nothing(place: Path, undisturbed: list[dict[str, Any]]) -> None:
    before = (place / "whole" / "rewards.jsonl").read_bytes()
    process = score(place, "whole")
    out, _ = process.communicate(timeout=120)
    assert "0 vector(s) appended" in out
    assert (place / "whole" / "rewards.jsonl").read_bytes() == before


def test_ctrl_c_prints_the_line_that_resumes(place: Path) -> None:
    process = score(place, "interrupted")
    while process.poll() is None and not (place / "interrupted" / "run.json").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert err.rstrip().endswith("score runs/sft --spec spec.yaml --out interrupted")
    assert "Traceback" not in err


def test_a_failed_checkpoint_is_measured_again_on_request_and_later_gains_follow(
    place: Path, undisturbed: list[dict[str, Any]]
) -> None:
    process = score(place, "healed")
    process.communicate(timeout=120)
    repaired = place / "runs" / "sft" / "checkpoint-30"
    broken = (repaired / "model.safetensors").read_bytes()
    try:
        tiny.save(repaired, tiny.llama(30), tiny.tokenizer())
        process = score(place, "healed")
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 8
        assert "0 vector(s) appended" in out
        process = score(place, "healed", "--retry-failed")
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    finally:
        (repaired / "model.safetensors").write_bytes(broken)
    healed = timeless(place / "healed" / "rewards.jsonl")
    assert [v["step"] for v in healed] == [10, 20, 30, 40]
    assert all(v["status"] == "ok" for v in healed)
    assert healed[:2] == undisturbed[:2]
    for before, after in itertools.pairwise(healed):
        assert after["gain"] == after["scalar"] - before["scalar"]
    assert undisturbed[3]["gain"] is None


def scored(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    assert run(["score", *arguments, "--field", str(folder / "a.jsonl"), "--out", str(folder / "out"), "--quiet"]) == 0
    return timeless(folder / "out" / "rewards.jsonl")


def test_an_earlier_step_that_comes_later_takes_its_place_as_in_an_undisturbed_run(tmp_path: Path) -> None:
    write_field(tmp_path / "a.jsonl", 5)
    for step in (5, 10, 20):
        tiny.save(tmp_path / "sft" / f"checkpoint-{step}", tiny.llama(step))
    steps = [str(tmp_path / "sft" / f"checkpoint-{step}") for step in (5, 10, 20)]
    scored(tmp_path, steps[1], steps[2])
    late = scored(tmp_path, steps[0])
    (tmp_path / "out").rename(tmp_path / "late")
    assert late == scored(tmp_path, str(tmp_path / "sft"))
    assert [vector["step"] for vector in late] == [5, 10, 20]
    assert all(vector["gain"] is not None for vector in late[1:])


def test_a_mixture_given_later_comes_into_the_feed(tmp_path: Path) -> None:
    write_field(tmp_path / "a.jsonl", 5)
    folder = tiny.save(tmp_path / "sft" / "checkpoint-1")
    before = scored(tmp_path, str(tmp_path / "sft"))[0]
    assert before["mixture"] is None
    (folder / "mixture.json").write_text('{"code": 0.25, "prose": 0.75}')
    after = scored(tmp_path, str(tmp_path / "sft"))[0]
    assert after == {**before, "mixture": {"domains": ["code", "prose"], "weights": [0.25, 0.75]}}


def test_tokens_seen_given_later_come_into_the_feed_and_measure_nothing(tmp_path: Path) -> None:
    write_field(tmp_path / "a.jsonl", 5)
    folder = tiny.save(tmp_path / "sft" / "checkpoint-1")
    (folder / "mixture.json").write_text('{"code": 1}')
    before = scored(tmp_path, str(tmp_path / "sft"))[0]
    (folder / "mixture.json").write_text('{"code": 1, "tokens_seen": 4096}')
    after = scored(tmp_path, str(tmp_path / "sft"))[0]
    assert after == {**before, "checkpoint": {**before["checkpoint"], "tokens_seen": 4096}}
    (folder / "mixture.json").unlink()
    assert scored(tmp_path, str(tmp_path / "sft"))[0] == after, "what a feed knows is not forgotten with the file"


def test_a_tokenizer_replaced_beside_the_same_weights_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_field(tmp_path / "a.jsonl", 5)
    folder = tiny.save(tmp_path / "sft" / "checkpoint-1")
    scored(tmp_path, str(tmp_path / "sft"))
    tiny.tokenizer(vocab_size=300).save_pretrained(folder)
    again = ["score", str(folder), "--field", str(tmp_path / "a.jsonl"), "--out", str(tmp_path / "out")]
    assert run(again) == 7
    assert "measured with other tokenizer files" in capsys.readouterr().err


def test_equal_weights_under_two_tokenizers_are_two_measurements_with_their_own_items_and_no_gain(
    tmp_path: Path,
) -> None:
    write_field(tmp_path / "a.jsonl", 5)
    tiny.save(tmp_path / "sft" / "checkpoint-1")
    tiny.save(tmp_path / "sft" / "checkpoint-2", tok=tiny.tokenizer(vocab_size=300))
    first, second = scored(tmp_path, str(tmp_path / "sft"))
    assert first["checkpoint"]["fingerprint"] == second["checkpoint"]["fingerprint"]
    assert second["gain"] is None
    assert "another tokenizer" in " ".join(second["warnings"])
    for vector in (first, second):
        detail = vector["components"][0]["detail"]
        items = pq.read_table(tmp_path / "out" / detail["items"]).to_pydict()
        assert sum(items["n_tokens"]) == detail["n_tokens"]
