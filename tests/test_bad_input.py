"""Each thing that can be wrong gives one clear message - what, where, what to do - and its exit code."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import forked
import pytest
import tiny
import torch
from run_folders import fields, write_run

from harness.cli import run
from harness.feed.feed import read_feed

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("good") / "model")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [{"q": f"What is {i}?", "r": f" It is {i}."} for i in range(6)]
    (tmp_path / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tmp_path


def spec(here: Path, text: str) -> str:
    (here / "spec.yaml").write_text(text, encoding="utf-8")
    return "spec.yaml"


def error_of(capsys: Capture) -> str:
    err = capsys.readouterr().err.strip()
    assert "Traceback" not in err
    assert err.count("harness: error:") == 1
    return err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("components: [{name: a, kind: logprob, field: f.jsonl, lamda: 1}]", "unknown key 'lamda'"),
        ("componets: []", "unknown key 'componets'; did you mean 'components'"),
        (
            "components: [{name: a, kind: logprob, field: f.jsonl}, {name: a, kind: logprob, field: f.jsonl}]",
            "'a' is used twice",
        ),
        ("components: [{name: a, kind: telepathy, field: f.jsonl}]", "kind 'telepathy' is unknown"),
        ("components: [{name: a, kind: logprob, field: nonsense}]", "no field is named 'nonsense'"),
        ("standardize: ref.json\ncomponents: [{name: a, kind: logprob, field: f.jsonl}]", "fit-reference"),
        ("components: [", "not valid YAML"),
    ],
)
def test_a_bad_spec_is_refused_before_anything_is_scored(
    here: Path, good: Path, capsys: Capture, text: str, message: str
) -> None:
    assert run(["score", str(good), "--spec", spec(here, text), "--out", "o"]) == 3
    assert message in error_of(capsys)
    assert not (here / "o").exists()


def line_812(path: Path) -> None:
    lines = ['{"q": "a", "r": " b"}'] * 1000
    lines[811] = '{"q": "a", "r": '
    path.write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (line_812, "bad.jsonl line 812: not valid JSON"),
        (lambda path: path.write_bytes(b'{"q": "caf\xe9", "r": " x"}\n'), "bad.jsonl line 1: not UTF-8"),
        (lambda path: path.write_text(""), "is empty"),
        (lambda path: path.write_text('{"q": "a", "r": ""}\n'), "line 1: r is empty"),
        (lambda path: path.write_text('{"question": "a"}\n'), "of no known form"),
        (lambda path: None, "No such file"),
    ],
)
def test_a_bad_field_is_refused_before_anything_is_scored(
    here: Path, good: Path, capsys: Capture, write: Callable[[Path], None], message: str
) -> None:
    write(here / "bad.jsonl")
    assert run(["score", str(good), "--field", "bad.jsonl", "--out", "o"]) == 4
    assert message in error_of(capsys)
    assert not (here / "o").exists()


ELF = b"\x7fELF\xb4\xff"
RUN = [
    "tau2",
    "run",
    "-d",
    "mock",
    "--solo",
    "--agent-llm",
    "hosted_vllm/x",
    "--agent-api-base",
    "http://127.0.0.1:1/v1",
]
JSON_FILES = [
    (["export", "r", "--format", "olmix", "--sizes"], 4),
    (["mix", "sample", "-o", "p.json"], 4),
    (["score", "m", "--field", "f.jsonl", "--weights"], 3),
    (["score", "m", "--field", "f.jsonl", "--standardize"], 3),
]
YAML_FILES = [(["score", "m", "--spec"], 3), (["gate", "r", "--against", "r", "--policy"], 3)]
OTHERS = [(["compare", "r"], 4), (["aggregate"], 4), ([*RUN, "-o", "o", "--agent-instructions"], 4)]


@pytest.mark.parametrize(
    ("arguments", "code", "content", "words"),
    [
        *((*one, None, "it is a folder; name a file") for one in JSON_FILES + YAML_FILES),
        *((*one, b"", "the file is empty") for one in JSON_FILES),
        *((*one, b"", "expected a mapping with") for one in YAML_FILES),
        *((*one, ELF, "not UTF-8 (byte 0xb4 at position 5)") for one in JSON_FILES + YAML_FILES + OTHERS),
    ],
)
def test_a_file_that_is_none_is_said_to_be_what_it_is(
    here: Path, good: Path, capsys: Capture, arguments: list[str], code: int, content: bytes | None, words: str
) -> None:
    """Whatever option names it: a folder, an empty file, a binary one."""
    (here / "m").symlink_to(good)
    write_run(here / "r", {"sft": {step: fields(step, code=0.1) for step in (1, 2)}})
    if content is None:
        (here / "bad.json").mkdir()
    else:
        (here / "bad.json").write_bytes(content)
    assert run([*arguments, "bad.json"]) == code
    assert words in error_of(capsys)


def test_a_tracker_that_is_none_stops_a_run_before_it_begins_and_its_forecast_and_doctor_say_so(
    here: Path, good: Path, capsys: Capture
) -> None:
    text = "track: [foo]\ncomponents: [{name: a, kind: logprob, field: f.jsonl}]"
    arguments = [str(good), "--spec", spec(here, text), "--out", "o"]
    assert run(["score", *arguments]) == 3
    assert "there is no tracker 'foo'; there are mlflow" in error_of(capsys)
    assert run(["score", *arguments, "--dry-run"]) == 8
    assert "here the run would not begin: --track foo: there is no tracker" in capsys.readouterr().err
    assert run(["doctor", *arguments]) == 8
    assert "FAILED  tracker foo: --track foo: there is no tracker" in capsys.readouterr().out
    assert not (here / "o").exists()


def test_a_file_where_a_folder_is_meant_is_said_at_once(here: Path, good: Path, capsys: Capture) -> None:
    assert run(["watch", "f.jsonl", "--field", "f.jsonl", "--out", "o", "--idle-timeout", "60"]) == 5
    assert "f.jsonl is a file; name the folder" in error_of(capsys)
    assert run(["doctor", str(good), "--out", "f.jsonl/o"]) == 8
    assert "FAILED  disk: f.jsonl is a file, so no run folder can be made" in capsys.readouterr().out.replace(
        str(here) + "/", ""
    )


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def corrupt(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(b"\x40" + b"\0" * 7 + b"x" * (path.stat().st_size - 8))


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def no_tokenizer(folder: Path) -> None:
    for path in folder.glob("*token*"):
        path.unlink()


def bad_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def nan_weights(folder: Path) -> None:
    model = tiny.llama()
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = float("nan")
    model.save_pretrained(folder)


def infinite_weights(folder: Path) -> None:
    model = tiny.llama()
    model.lm_head.weight.data[5, 5] = float("inf")
    model.save_pretrained(folder)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(tiny.llama().state_dict(), folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncated, "is truncated"),
        (corrupt, "is corrupt"),
        (no_weights, "no weights in"),
        (no_tokenizer, "no tokenizer in"),
        (bad_config, "config.json"),
        (nan_weights, "model.layers.1.mlp.up_proj.weight holds NaN or infinity"),
        (infinite_weights, "lm_head.weight holds NaN or infinity"),
        (pickled, "--allow-pickle"),
    ],
)
def test_one_bad_checkpoint_in_a_sweep_is_one_failed_vector_and_the_rest_are_scored(
    here: Path, good: Path, capsys: Capture, damage: Callable[[Path], None], message: str
) -> None:
    for step in (1, 2, 3):
        shutil.copytree(good, here / "runs" / f"checkpoint-{step}")
    damage(here / "runs" / "checkpoint-2")
    assert run(["score", "runs", "--field", "f.jsonl", "--out", "o"]) == 8
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    feed = read_feed("o")
    assert [vector.status for vector in feed] == ["ok", "failed", "ok"]
    assert feed[1].vector == [None]
    assert feed[1].scalar is None
    assert message in (feed[1].components[0].reason or "")
    assert message in captured.err


def test_a_missing_chat_template_fails_its_own_component_only(here: Path, capsys: Capture) -> None:
    tiny.save(here / "plain", tok=tiny.tokenizer(chat_template=None))
    chat = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}
    (here / "chat.jsonl").write_text(json.dumps(chat) + "\n", encoding="utf-8")
    assert run(["score", "plain", "--field", "chat.jsonl", "--field", "f.jsonl", "--out", "o"]) == 8
    vector = read_feed("o")[0]
    assert vector.status == "partial"
    assert [component.status for component in vector.components] == ["failed", "ok"]
    assert "no chat template" in capsys.readouterr().err


def test_a_checkpoint_that_is_not_there_is_an_error_at_once(here: Path, capsys: Capture) -> None:
    assert run(["score", "runs/nowhere/at-all", "--field", "f.jsonl", "--out", "o"]) == 5
    assert "runs/nowhere/at-all" in error_of(capsys)
    (here / "empty").mkdir()
    assert run(["score", "empty", "--field", "f.jsonl", "--out", "o"]) == 5
    assert "no checkpoint in empty" in error_of(capsys)


def test_a_pair_longer_than_the_context_fails_unless_the_spec_says_otherwise(here: Path, capsys: Capture) -> None:
    tiny.save(here / "short", tiny.llama(max_position_embeddings=16))
    long = [{"q": "word " * 40, "r": " end"}, {"q": "a", "r": " b"}]
    (here / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in long), encoding="utf-8")
    assert run(["score", "short", "--field", "long.jsonl", "--out", "fail"]) == 8
    assert "pair 0" in capsys.readouterr().err
    assert read_feed("fail")[0].vector == [None]
    assert run(["score", "short", "--field", "long.jsonl", "--out", "skip", "--overflow", "skip"]) == 8
    skipped = read_feed("skip")[0].components[0]
    assert (skipped.status, skipped.n_scored, skipped.n_items, skipped.detail["n_skipped"]) == ("partial", 1, 2, 1)
    assert run(["score", "short", "--field", "long.jsonl", "--out", "cut", "--overflow", "truncate"]) == 0
    cut = read_feed("cut")[0].components[0]
    assert (cut.status, cut.n_scored, cut.detail["n_truncated"]) == ("ok", 2, 1)


def test_two_runs_into_one_folder_the_second_is_refused(here: Path, good: Path, capsys: Capture) -> None:
    holder = (
        "import sys\nfrom pathlib import Path\nfrom harness.run.ledger import open_run\n"
        "with open_run(Path('o'), run='r', spec_digest='d', spec={}):\n"
        "    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder], cwd=here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert run(["score", str(good), "--field", "f.jsonl", "--out", "o"]) == 7
        message = error_of(capsys)
        assert "in use by another run" in message
        assert str(process.pid) in message
        process.communicate("")


def test_a_folder_of_another_spec_is_refused_and_left_alone(here: Path, good: Path, capsys: Capture) -> None:
    assert run(["score", str(good), "--field", "f.jsonl", "--out", "o"]) == 0
    before = (here / "o" / "rewards.jsonl").read_bytes()
    rows = (here / "f.jsonl").read_text(encoding="utf-8").replace("What", "Which")
    (here / "f.jsonl").write_text(rows, encoding="utf-8")
    capsys.readouterr()
    assert run(["score", str(good), "--field", "f.jsonl", "--out", "o"]) == 7
    assert "another spec" in error_of(capsys)
    assert (here / "o" / "rewards.jsonl").read_bytes() == before


def test_a_checkpoint_overwritten_since_is_refused(here: Path, capsys: Capture) -> None:
    tiny.save(here / "model", tiny.llama(1))
    assert run(["score", "model", "--field", "f.jsonl", "--out", "o"]) == 0
    capsys.readouterr()
    tiny.save(here / "model", tiny.llama(2))
    assert run(["score", "model", "--field", "f.jsonl", "--out", "o"]) == 7
    assert "other weights" in error_of(capsys)


def test_an_output_folder_that_cannot_be_made_is_an_error_at_once(here: Path, good: Path, capsys: Capture) -> None:
    (here / "file").write_text("in the way")
    assert run(["score", str(good), "--field", "f.jsonl", "--out", "file/o"]) == 7
    assert "cannot write file/o" in error_of(capsys)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_an_error_at_once(here: Path, good: Path, capsys: Capture) -> None:
    (here / "closed").mkdir(mode=0o500)
    assert run(["score", str(good), "--field", "f.jsonl", "--out", "closed/o"]) == 7
    assert "Permission denied" in error_of(capsys)


def test_a_full_disk_stops_the_run_with_a_message_and_the_run_goes_on_later(here: Path, good: Path) -> None:
    for step in (1, 2, 3):
        shutil.copytree(good, here / "runs" / f"checkpoint-{step}")
    command = [sys.executable, "-c", "from harness.cli import main; main()"]
    command += ["score", "runs", "--field", "f.jsonl", "--out", "o"]
    # No file may grow past this size: ledger and feed hit it like a full disk, one line after the other.
    full = forked.run(command, limits={resource.RLIMIT_FSIZE: (4096, resource.RLIM_INFINITY)})
    assert full.returncode == 7, full.stderr
    assert full.stderr.count("harness: error: cannot write") == 1
    assert "Traceback" not in full.stderr
    written = (here / "o" / "rewards.jsonl").read_bytes()
    assert written.endswith(b"\n")
    done = forked.run(command)
    assert done.returncode == 0, done.stderr
    assert [vector.step for vector in read_feed(here / "o")] == [1, 2, 3]
    assert (here / "o" / "rewards.jsonl").read_bytes().startswith(written)


def test_a_corrupt_ledger_or_feed_is_named_and_not_overwritten(here: Path, good: Path, capsys: Capture) -> None:
    assert run(["score", str(good), "--field", "f.jsonl", "--out", "o"]) == 0
    for name in ("ledger.jsonl", "rewards.jsonl"):
        path = here / "o" / name
        whole = path.read_bytes()
        path.write_bytes(b"garbage\n" + whole)
        capsys.readouterr()
        assert run(["score", str(good), "--field", "f.jsonl", "--out", "o"]) in (4, 7)
        assert f"{name} line 1" in error_of(capsys)
        assert path.read_bytes() == b"garbage\n" + whole
        path.write_bytes(whole)


def test_folders_with_odd_names_are_scored_like_any_other(here: Path, good: Path) -> None:
    shutil.copytree(good, here / "日本 [x] 100%" / "checkpoint-1")
    (here / "prose").write_text((here / "f.jsonl").read_text(encoding="utf-8"), encoding="utf-8")
    spec_file = spec(here, "components: [{name: p, kind: logprob, field: ./prose}]")
    assert run(["score", ".", "--spec", spec_file, "--out", "o"]) == 0
    assert [vector.trajectory for vector in read_feed("o")] == ["日本 [x] 100%"]


def test_a_folder_whose_name_is_not_utf8_fails_alone_and_not_its_twin(here: Path, good: Path, capsys: Capture) -> None:
    for name in (b"caf\xe9", b"cafe"):
        shutil.copytree(good, Path(os.fsdecode(os.fsencode(here) + b"/" + name)) / "checkpoint-1")
    assert run(["score", os.fsdecode(b"caf\xe9"), "cafe", "--field", "f.jsonl", "--out", "o"]) == 8
    feed = read_feed("o")
    # The tokenizer library cannot open such a path. The same weights under a good name are another attempt.
    assert {vector.trajectory: vector.status for vector in feed} == {"caf\ufffd": "failed", "cafe": "ok"}
    assert "cannot load the tokenizer" in capsys.readouterr().err
