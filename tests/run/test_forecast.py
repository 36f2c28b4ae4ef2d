"""--dry-run: what is left to do, in requests, tokens and time, and nothing written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from harness.checkpoints.find import find_checkpoints
from harness.cli import run as command
from harness.core.errors import EXIT_INCOMPLETE, EXIT_OK, CheckpointError
from harness.run.forecast import forecast
from harness.run.pipeline import run
from harness.spec.prepared import prepare
from harness.spec.spec import parse_spec

SPEC = """
serve: {url: "http://127.0.0.1:9/v1"}
components:
  - {name: f, kind: logprob, field: f.jsonl}
  - {name: mock, kind: tau2, domain: mock, solo: true, trials: 2}
"""


def write(tmp_path: Path) -> Path:
    (tmp_path / "f.jsonl").write_text('{"q": "a", "r": " b"}\n{"q": "The quick", "r": " brown fox"}\n')
    (tmp_path / "spec.yaml").write_text(SPEC)
    for step in (1, 2, 3):
        tiny.save(tmp_path / "run" / f"checkpoint-{step}", tiny.llama(step))
    return tmp_path / "run"


def test_requests_tokens_and_time_of_what_is_left(tmp_path: Path) -> None:
    folder = write(tmp_path)
    spec = parse_spec({"components": [{"name": "f", "kind": "logprob", "field": "f.jsonl"}]}, folder=tmp_path)
    prepared, found = prepare(spec), find_checkpoints([str(folder)])
    out = tmp_path / "out"
    (line,) = forecast(prepared, found, out=out).lines
    assert (line.n_checkpoints, line.requests, line.seconds_from) == (3, 6, "size")
    tokenizer = tiny.tokenizer()
    n_tokens = len(tokenizer("a b")["input_ids"]) + len(tokenizer("The quick brown fox")["input_ids"])
    assert line.prompt_tokens == 3 * n_tokens
    assert line.seconds is not None and 0 < line.seconds < 60
    assert not out.exists()
    run(prepared, found[:1], out=out)
    later = forecast(prepared, found, out=out)
    assert (later.n_done, later.lines[0].requests, later.lines[0].seconds_from) == (1, 4, "earlier")
    assert later.stopped_by is None
    other = prepare(parse_spec({"components": [{"name": "g", "kind": "logprob", "field": "f.jsonl"}]}, folder=tmp_path))
    assert "holds a run of another spec" in (forecast(other, found, out=out).stopped_by or "")


def test_a_component_that_no_variable_changes_is_counted_once(tmp_path: Path) -> None:
    folder = write(tmp_path)
    varied = {"name": "v", "kind": "logprob", "field": "f.jsonl", "prompt": "{a} {q}"}
    fixed = {"name": "f", "kind": "logprob", "field": "f.jsonl"}
    spec = parse_spec({"vary": {"a": [0, 1]}, "components": [varied, fixed]}, folder=tmp_path)
    prepared, found, out = prepare(spec), find_checkpoints([str(folder)]), tmp_path / "out"
    planned = [(line.component, line.requests) for line in forecast(prepared, found, out=out).lines]
    assert planned == [("v[a=0]", 6), ("f", 6), ("v[a=1]", 6)]
    run(prepared, found[:1], out=out)
    assert [line.requests for line in forecast(prepared, found, out=out).lines] == [4, 4, 4]


def test_a_first_checkpoint_that_cannot_be_measured_hides_no_other(tmp_path: Path) -> None:
    folder = write(tmp_path)
    tiny.save(folder / "checkpoint-1", tiny.llama(1), tiny.tokenizer(chat_template=None))
    (folder / "checkpoint-1" / "chat_template.jinja").unlink()
    turns = '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]'
    (tmp_path / "talk.jsonl").write_text(f'{{"messages": {turns}}}\n')
    spec = parse_spec({"components": [{"name": "t", "kind": "logprob", "field": "talk.jsonl"}]}, folder=tmp_path)
    found = find_checkpoints([str(folder)])
    (line,) = forecast(prepare(spec), found, out=tmp_path / "out").lines
    assert (line.n_checkpoints, line.requests) == (3, 3) and line.prompt_tokens
    with pytest.raises(CheckpointError, match="no chat template"):
        forecast(prepare(spec), found[:1], out=tmp_path / "out")


def test_the_command_prints_it_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path)
    arguments = ["score", str(folder), "--spec", str(tmp_path / "spec.yaml"), "--out", str(tmp_path / "out")]
    assert command([*arguments, "--dry-run"]) == EXIT_OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:4] == ["f", "logprob", "3", "6"]
    assert lines[2].split()[:3] == ["mock", "tau2", "3"] and lines[2].split()[-1] == "unknown"
    assert not (tmp_path / "out").exists()
    (folder / "checkpoint-3" / "model.safetensors").unlink()
    assert command([*arguments, "--dry-run"]) == EXIT_INCOMPLETE
    assert "checkpoint-3 will be a failed vector" in capsys.readouterr().err


LOOK = "import sys; from harness.cli import run; code = run(sys.argv[1:]); print(code, 'torch' in sys.modules, 'transformers' in sys.modules)"


def test_a_dry_run_under_a_tokenizer_that_was_seen_before_imports_no_torch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of checkpoints that nothing has looked at: only the tokenizer and the field are known."""
    folder = write(tmp_path)
    arguments = ["score", str(folder), "--field", str(tmp_path / "f.jsonl"), "--dry-run"]
    assert command([*arguments, "--out", str(tmp_path / "out")]) == EXIT_OK
    said = capsys.readouterr().out.splitlines()[1].split()[:5]
    tiny.save(tmp_path / "other" / "checkpoint-1", tiny.llama(9))
    for step in (2, 3):
        tiny.save(tmp_path / "other" / f"checkpoint-{step}", tiny.llama(step))
    arguments[1] = str(tmp_path / "other")
    done = subprocess.run([sys.executable, "-c", LOOK, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1].split()[:5] == said
    assert done.stdout.splitlines()[-1] == "0 False False"
