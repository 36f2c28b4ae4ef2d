"""harness doctor: every finding, none hidden by another, nothing loaded or written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from harness.checkpoints.find import find_checkpoints
from harness.cli import run as command
from harness.core.component import Check
from harness.core.errors import EXIT_INCOMPLETE, EXIT_OK, SpecError
from harness.engines.scripted.server import ScriptedServer, serving
from harness.run.doctor import examine
from harness.run.forecast import forecast
from harness.run.pipeline import run
from harness.spec.prepared import prepare
from harness.spec.spec import parse_spec
from harness.tasks.tau2.sources import open_domain
from harness.tau2.simulate.reference_play import ReferencePlay


def spec(tmp_path: Path, *components: dict[str, Any], **keys: Any) -> Any:
    (tmp_path / "f.jsonl").write_text('{"q": "a", "r": " b"}\n')
    field = {"name": "f", "kind": "logprob", "field": "f.jsonl"}
    return parse_spec({"components": [field, *components], **keys}, folder=tmp_path)


def training(tmp_path: Path) -> Path:
    for step in (1, 2):
        tiny.save(tmp_path / "run" / f"checkpoint-{step}", tiny.llama(step))
    return tmp_path / "run"


def findings(*arguments: Any, **keys: Any) -> dict[str, Check]:
    return {check.name: check for check in examine(*arguments, **keys)}


def test_all_is_well(tmp_path: Path) -> None:
    found = findings(spec(tmp_path), [str(training(tmp_path))], out=tmp_path / "out")
    assert [check.name for check in found.values() if check.ok is not True] == []
    assert found["checkpoints"].words.startswith("2 of 2 whole")
    assert not (tmp_path / "out").exists()


def test_a_broken_checkpoint_hides_nothing_else(tmp_path: Path) -> None:
    folder = training(tmp_path)
    weights = folder / "checkpoint-1" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    found = findings(spec(tmp_path), [str(folder)])
    assert found[str(folder / "checkpoint-1")].ok is False
    assert found["checkpoints"].words.startswith("1 of 2 whole") and found["tokenizer"].ok


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("missing", "weights missing from the files, which would be random: model.layers.0.mlp.up_proj.weight"),
        ("beyond", "holds tensors that have no place in its model (model.layers.9.mlp.up_proj.weight)"),
        ("shape", "weights of another shape than the configuration says: "),
        ("twice", "two tensors for one place of its model"),
        ("type", "has no quantization_config"),
        ("nan", "weight model.layers.0.mlp.up_proj.weight in "),
    ],
)
def test_weights_that_would_be_refused_are_found_before_a_model_is_loaded(
    tmp_path: Path, change: str, words: str
) -> None:
    folder = training(tmp_path) / "checkpoint-1"
    tensors, name = load_file(folder / "model.safetensors"), "model.layers.0.mlp.up_proj.weight"
    weight = tensors.pop(name)
    if change == "beyond":
        tensors |= {name: weight, name.replace("layers.0", "layers.9"): weight.clone()}
    elif change == "shape":
        tensors[name] = weight[1:]
    elif change == "twice":
        tensors |= {name: weight, name.removeprefix("model."): weight.clone()}
    elif change == "type":
        tensors[name] = weight.to(torch.int8)
    elif change == "nan":
        tensors[name] = weight.index_fill(0, torch.tensor([3]), torch.nan)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    found = findings(spec(tmp_path), [str(folder.parent)])
    assert found[str(folder)].ok is False and words in found[str(folder)].words
    assert "weights" not in found and found["tokenizer"].ok


def test_an_adapters_base_is_looked_at_too(tmp_path: Path) -> None:
    tiny.save(tmp_path / "base", tiny.llama(1))
    tiny.save_adapter(tmp_path / "adapter", tiny.lora(tiny.llama(1)), tmp_path / "base")
    assert findings(spec(tmp_path), [str(tmp_path / "adapter")])["weights"].ok
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "base" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    found = findings(spec(tmp_path), [str(tmp_path / "adapter")])[str(tmp_path / "adapter")]
    assert found.ok is False and "no place in its model" in found.words


def test_a_field_that_a_chat_template_does_not_take_is_found(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    (tmp_path / "talk.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    checked = spec(tmp_path, {"name": "talk", "kind": "logprob", "field": "talk.jsonl"})
    folder = tiny.save(tmp_path / "checkpoint-1", tiny.llama(1), tiny.tokenizer(chat_template=None))
    found = findings(checked, [str(folder)])
    assert found["talk"].ok is False and "chat template" in found["talk"].words


def test_pickled_weights_that_are_not_allowed_are_no_whole_checkpoint(tmp_path: Path) -> None:
    folder = training(tmp_path) / "checkpoint-1"
    torch.save(tiny.llama(1).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    found = findings(spec(tmp_path), [str(folder.parent)])
    assert found[str(folder)].ok is False and "--allow-pickle" in found[str(folder)].words
    assert findings(spec(tmp_path, allow_pickle=True), [str(folder.parent)])["checkpoints"].words.startswith("2 of 2")


def test_overwritten_weights_are_noticed(tmp_path: Path) -> None:
    folder, chosen = training(tmp_path), spec(tmp_path)
    run(prepare(chosen), find_checkpoints([str(folder)]), out=tmp_path / "out")
    assert findings(chosen, [str(folder)], out=tmp_path / "out")["fingerprints"].words == "2 compared, as in the feed"
    tiny.save(folder / "checkpoint-2", tiny.llama(7))
    other = findings(spec(tmp_path, standardize="none"), [], out=tmp_path / "out")["run folder"]
    assert other.ok is False and "another spec" in other.words
    changed = findings(chosen, [str(folder)], out=tmp_path / "out")["fingerprints"]
    assert changed.ok is False and "checkpoint-2" in changed.words and "checkpoint-1" not in changed.words


def test_overwritten_weights_are_noticed_in_the_trajectory_of_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = training(tmp_path), tmp_path / "out"
    spec(tmp_path)
    (tmp_path / "spec.yaml").write_text(
        "vary: {alpha: [0, 1]}\ncomponents: [{name: f, kind: logprob, field: f.jsonl, prompt: '{alpha} {q}'}]\n"
    )
    arguments = [str(folder), "--spec", str(tmp_path / "spec.yaml"), "--out", str(out)]
    assert command(["score", *arguments, "--quiet"]) == EXIT_OK
    assert command(["doctor", *arguments]) == EXIT_OK
    assert "fingerprints: 2 compared, as in the feed" in capsys.readouterr().out
    feed = out / "rewards.jsonl"
    last_row_only = [line for line in feed.read_text().splitlines(keepends=True) if "run[alpha=1]" in line]
    feed.write_text("".join(last_row_only))
    tiny.save(folder / "checkpoint-2", tiny.llama(7))
    assert command(["doctor", *arguments]) == EXIT_INCOMPLETE
    said = capsys.readouterr().out
    assert "other weights than the feed's" in said and "checkpoint-2" in said and "checkpoint-1;" not in said


def test_every_row_is_looked_at_and_what_they_share_is_said_once(tmp_path: Path) -> None:
    with serving(ScriptedServer(ReferencePlay(open_domain("mock").tasks()))) as running:
        user = {"model": "hosted_vllm/scripted", "api_base": "{where}"}
        mock = {"name": "mock", "kind": "tau2", "domain": "mock", "user": user}
        dead = "http://127.0.0.1:9/v1"
        found = findings(spec(tmp_path, mock, vary={"where": [running.url, dead]}), [])
    failed = [check.name for check in found.values() if check.ok is False]
    assert failed == [f"tau2 mock user[where={dead}]"]
    assert found[f"tau2 mock user[where={running.url}]"].ok


def test_checkpoints_whose_calls_cannot_be_read_are_one_and_a_number(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        tiny.save(tmp_path / f"checkpoint-{step}", tok=tiny.tokenizer(chat_template=None))
    solo = {"name": "mock", "kind": "tau2", "domain": "mock", "solo": True}
    found = findings(spec(tmp_path, solo), [str(tmp_path)])["tool parser"]
    assert found.ok is False and "checkpoint-1 and 2 more" in found.words and "checkpoint-3" not in found.words


def test_a_missing_chat_template_is_found_before_a_server_starts(tmp_path: Path) -> None:
    tiny.save(tmp_path / "plain", tok=tiny.tokenizer(chat_template=None))
    solo = {"name": "mock", "kind": "tau2", "domain": "mock", "solo": True}
    missing = findings(spec(tmp_path, solo), [str(tmp_path / "plain")])["chat template"]
    assert missing.ok is False and "one is needed for mock" in missing.words
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    given = spec(tmp_path, solo, serve={"chat_template": str(tmp_path / "chat.jinja")})
    assert "chat template" not in findings(given, [str(tmp_path / "plain")])


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        ({"command": "/nowhere/vllm"}, "neither the vllm command nor"),
        ({"args": ["--api-key", "s3cret"]}, "is seen by everybody"),
        ({"api_key_env": "HARNESS_NO_SUCH_KEY"}, "which is not set"),
        ({"url": "http://127.0.0.1:9/v1"}, "no answer from"),
        ({"url": "http://127.0.0.1:9/v1", "api_key_env": "HARNESS_NO_SUCH_KEY"}, "which is not set"),
    ],
)
def test_a_server_that_cannot_be_had_is_found_before_anything_is_measured(
    tmp_path: Path, serve: dict[str, Any], words: str
) -> None:
    chosen = spec(tmp_path, {"name": "mock", "kind": "tau2", "domain": "mock", "solo": True}, serve=serve)
    folder = training(tmp_path)
    found = findings(chosen, [str(folder)])["server"]
    assert found.ok is False and words in found.words and "s3cret" not in found.words
    if "no answer" not in words:  # that may change until it is needed
        prepared, checkpoints = prepare(chosen), find_checkpoints([str(folder)])
        with pytest.raises(SpecError, match=words):
            run(prepared, checkpoints, out=tmp_path / "out")
        assert words in (forecast(prepared, checkpoints, out=tmp_path / "out").stopped_by or "")
        assert not (tmp_path / "out").exists()


def test_a_scripted_user_answers_the_diagnosis(tmp_path: Path) -> None:
    with serving(ScriptedServer(ReferencePlay(open_domain("mock").tasks()))) as running:
        user = {"model": "hosted_vllm/scripted", "api_base": running.url}
        chosen = spec(tmp_path, {"name": "mock", "kind": "tau2", "domain": "mock", "user": user})
        assert findings(chosen, [])["tau2 mock user"].ok


def test_what_cannot_be_read_is_the_first_and_only_finding(tmp_path: Path) -> None:
    chosen = spec(tmp_path)
    (tmp_path / "f.jsonl").unlink()
    (only,) = examine(chosen, [])
    assert only.name == "spec" and only.ok is False and "f.jsonl" in only.words


def test_the_command_says_it_with_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = training(tmp_path)
    assert command(["doctor", str(folder)]) == EXIT_OK
    assert "FAILED" not in capsys.readouterr().out
    assert command(["doctor", str(tmp_path / "nowhere")]) == EXIT_INCOMPLETE
    assert "FAILED  checkpoints: no checkpoint at" in capsys.readouterr().out
