"""Specs that vary a variable of their prompts: a vector per value, each compared with its own kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny

from harness.checkpoints.find import find_checkpoints
from harness.cli import run as command
from harness.core.errors import EXIT_INCOMPLETE, EXIT_OK, SpecError
from harness.run.live import RewardEnvironment
from harness.run.observer import Observer
from harness.run.pipeline import run
from harness.spec.prepared import prepare
from harness.spec.spec import parse_spec

PAIRS = '{"q": "def add(a, b):", "r": " return a + b"}\n{"q": "The quick brown", "r": " fox"}\n'
VALUES = [0.0, 0.5, 1]


def spec(tmp_path: Path, **changes: Any) -> Any:
    (tmp_path / "pairs.jsonl").write_text(PAIRS)
    components = [
        {"name": "asked", "kind": "logprob", "field": "pairs.jsonl", "prompt": "alpha={alpha}\n{q}"},
        {"name": "plain", "kind": "logprob", "field": "pairs.jsonl"},
    ]
    return parse_spec({"components": components, "vary": {"alpha": VALUES}, **changes}, folder=tmp_path)


def training(tmp_path: Path, steps: int = 2) -> str:
    for step in range(1, steps + 1):
        tiny.save(tmp_path / "run" / f"checkpoint-{step}", tiny.llama(step))
    return str(tmp_path / "run")


def test_every_value_is_a_vector_with_its_own_trajectory(tmp_path: Path) -> None:
    feed = run(prepare(spec(tmp_path)), find_checkpoints([training(tmp_path)]), out=tmp_path / "out").feed
    assert [(v.trajectory, v.step, v.variables) for v in feed] == [
        (f"run[alpha={value}]", step, {"alpha": value}) for step in (1, 2) for value in VALUES
    ]
    asked, plain = ([v.components[i].raw for v in feed] for i in (0, 1))
    assert len(set(asked)) == 6 and len(set(plain)) == 2
    first, second = feed.trajectory("run[alpha=0.5]")
    assert first.gain is None and second.gain == second.scalar - first.scalar
    assert {v.provenance.spec for v in feed} == {feed[0].provenance.spec}


def test_what_no_variable_changes_is_measured_once(tmp_path: Path) -> None:
    told: list[int] = []

    class Counting(Observer):
        def advance(self, *, items: int, tokens: int) -> None:
            told.append(items)

    prepared = prepare(spec(tmp_path))
    run(prepared, find_checkpoints([training(tmp_path)]), out=tmp_path / "out", observer=Counting())
    keys = [json.loads(line)["key"] for line in (tmp_path / "out" / "ledger.jsonl").read_text().splitlines()]
    assert len(keys) == len(set(keys)) == 2 * (len(VALUES) + 1)
    assert sum(told) == 2 * prepared.n_items, "progress ends where it said it would"


def test_the_command_shows_every_value_and_says_what_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec(tmp_path)
    (tmp_path / "spec.yaml").write_text(
        "vary: {alpha: [0, 1]}\noverflow: fail\n"
        "components: [{name: asked, kind: logprob, field: pairs.jsonl, prompt: 'alpha={alpha} {q}'}]\n"
    )
    folder = Path(training(tmp_path))
    arguments = ["score", str(folder), "--spec", str(tmp_path / "spec.yaml"), "--out", str(tmp_path / "out")]
    assert command(arguments) == EXIT_OK
    said = capsys.readouterr()
    assert all(f"run[alpha={value}]" in said.out for value in (0, 1)) and "[4/4]" in said.err
    assert said.out.splitlines()[-1] == f"4 vector(s) appended to {tmp_path / 'out' / 'rewards.jsonl'}"
    tiny.save(folder / "checkpoint-3", tiny.llama(3))
    (folder / "checkpoint-3" / "model.safetensors").write_bytes(b"none")
    assert command(arguments) == EXIT_INCOMPLETE
    said = capsys.readouterr()
    assert said.out.splitlines()[-1].endswith("4 were there before") and "run[alpha=0] step 3" in said.err


def test_each_value_scores_what_the_written_out_prompt_scores(tmp_path: Path) -> None:
    folder = training(tmp_path, steps=1)
    feed = run(prepare(spec(tmp_path)), find_checkpoints([folder]), out=tmp_path / "out").feed
    for value, vector in zip(VALUES, feed, strict=True):
        keys = {"name": "asked", "kind": "logprob", "field": "pairs.jsonl", "prompt": f"alpha={value}\n{{q}}"}
        plain = parse_spec({"components": [keys]}, folder=tmp_path)
        alone = run(prepare(plain), find_checkpoints([folder]), out=tmp_path / str(value)).feed
        assert alone[0].vector == vector.vector[:1]


def test_conversations_vary_by_their_system_message(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": "It is."}]
    (tmp_path / "chats.jsonl").write_text(json.dumps({"messages": said}) + "\n")
    written = [{"role": "system", "content": "alpha=1"}, *said]
    (tmp_path / "written.jsonl").write_text(json.dumps({"messages": written}) + "\n")
    keys = {"name": "chats", "kind": "logprob", "field": "chats.jsonl", "system": "alpha={alpha}"}
    made = spec(tmp_path, components=[keys], vary={"alpha": [0, 1]})
    folder = training(tmp_path, steps=1)
    zero, one = run(prepare(made), find_checkpoints([folder]), out=tmp_path / "out").feed
    assert zero.vector != one.vector
    alone = parse_spec(
        {"components": [{"name": "chats", "kind": "logprob", "field": "written.jsonl"}]}, folder=tmp_path
    )
    assert run(prepare(alone), find_checkpoints([folder]), out=tmp_path / "alone").feed[0].vector == one.vector


@pytest.mark.parametrize(
    ("field", "key", "words"),
    [("pairs.jsonl", "system", "write it as `prompt`"), ("chats.jsonl", "prompt", "write it as `system`")],
)
def test_a_text_for_the_other_form_of_data_is_refused_by_name(tmp_path: Path, field: str, key: str, words: str) -> None:
    said = [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": "It is."}]
    (tmp_path / "chats.jsonl").write_text(json.dumps({"messages": said}) + "\n")
    with pytest.raises(SpecError, match=words):
        prepare(spec(tmp_path, components=[{"name": "x", "kind": "logprob", "field": field, key: "a={alpha} {q}"}]))


def test_an_interrupted_sweep_goes_on(tmp_path: Path) -> None:
    prepared, found = prepare(spec(tmp_path)), find_checkpoints([training(tmp_path)])
    whole = run(prepared, found, out=tmp_path / "whole").feed
    run(prepared, found, out=tmp_path / "out")
    path = tmp_path / "out" / "rewards.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2]) + lines[2][:100])
    again = run(prepared, found, out=tmp_path / "out")
    assert again.n_new == 4
    assert [(v.trajectory, v.step, v.vector, v.gain) for v in again.feed] == [
        (v.trajectory, v.step, v.vector, v.gain) for v in whole
    ]


def test_an_earlier_step_that_comes_later_rewrites_its_own_row(tmp_path: Path) -> None:
    training(tmp_path, steps=3)
    prepared = prepare(spec(tmp_path))
    late = [item for item in find_checkpoints([str(tmp_path / "run")]) if item.step != 2]
    run(prepared, late, out=tmp_path / "out")
    feed = run(prepared, find_checkpoints([str(tmp_path / "run")]), out=tmp_path / "out").feed
    for name in feed.trajectories:
        first, second, third = feed.trajectory(name)
        assert (second.gain, third.gain) == (second.scalar - first.scalar, third.scalar - second.scalar)


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        ({"beta": [1, 2]}, "no component has {beta} in its texts .*data's own texts are never filled"),
        ({"alpha": []}, "alpha needs at least one value"),
        ({"alpha": [1, 1]}, "none twice"),
        ({"q": [1]}, "no name of a variable"),
        ({"task": [1]}, "no name of a variable"),
        ({"al pha": [1]}, "no name of a variable"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, vary: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        prepare(spec(tmp_path, vary=vary))


def test_a_live_model_has_one_vector_a_step(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="vary"):
        RewardEnvironment(spec(tmp_path))
