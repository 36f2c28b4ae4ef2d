"""The command line and variables of `vllm serve`, without vLLM."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.core.errors import SpecError
from harness.core.serving import ServeSettings
from harness.engines.vllm.command import Launch, argv, check_args, environment, rank_room, value_of
from harness.engines.vllm.executable import find_executable
from harness.engines.vllm.gpu_memory import share

EXE = Path("/opt/env/bin/vllm")
LAUNCH = Launch(model=Path("/m"), name="checkpoint", parser="hermes", dtype="float32", max_model_len=2048, max_rank=16)


def pairs(words: list[str]) -> dict[str, str | None]:
    """Options with their values."""
    found: dict[str, str | None] = {}
    for index, word in enumerate(words):
        if word.startswith("--"):
            after = words[index + 1] if index + 1 < len(words) else "--"
            found[word] = None if after.startswith("--") else after
    return found


def test_what_we_ask_for() -> None:
    words = argv(EXE, LAUNCH, [], port=8001)
    assert words[:3] == [str(EXE), "serve", "/m"]
    assert pairs(words) == {
        "--served-model-name": "checkpoint",
        "--host": "127.0.0.1",
        "--port": "8001",
        "--shutdown-timeout": "5",
        "--uvicorn-log-level": "warning",
        "--enable-auto-tool-choice": None,
        "--tool-call-parser": "hermes",
        "--max-model-len": "2048",
        "--dtype": "float32",
        "--enable-lora": None,
        "--max-loras": "4",
        "--max-lora-rank": "16",
    }


@pytest.mark.parametrize(
    "theirs",
    [["--dtype", "bfloat16"], ["--dtype=bfloat16"], ["--max_model_len", "7"], ["--no-enable-lora"], ["--port=9"]],
)
def test_the_users_options_replace_ours(theirs: list[str]) -> None:
    words = argv(EXE, LAUNCH, theirs, port=8001)
    name = theirs[0].split("=")[0].replace("_", "-").replace("--no-", "--")
    assert words[-len(theirs) :] == theirs
    assert name not in words[: -len(theirs)]


def test_any_option_passes_through_in_order() -> None:
    theirs = ["--tensor-parallel-size", "4", "-dp", "2", "--nnodes=2", "--distributed-executor-backend", "ray"]
    assert argv(EXE, LAUNCH, theirs, port=1)[-len(theirs) :] == theirs


def test_an_older_vllm_is_asked_without_what_it_does_not_know() -> None:
    words = argv(EXE, LAUNCH, [], port=1, without={"--shutdown-timeout"})
    assert "--shutdown-timeout" not in words and "5" not in words


def test_the_last_value_counts() -> None:
    assert value_of(["--port", "1", "--host=h", "--port=2"], "--port") == "2"
    assert value_of(["--port"], "--port") is None


def test_the_key_goes_by_the_environment_alone() -> None:
    env = environment(EXE, LAUNCH, {}, {"VLLM_API_KEY": "stale", "PATH": "/bin"}, api_key="secret")
    assert env["VLLM_API_KEY"] == "secret" and env["PATH"] == "/opt/env/bin:/bin"
    assert "VLLM_API_KEY" not in environment(EXE, LAUNCH, {}, {"VLLM_API_KEY": "stale"}, api_key=None)
    with pytest.raises(SpecError, match="api_key_env"):
        check_args(["--api-key=secret"])
    with pytest.raises(ValueError, match="api_key_env"):
        ServeSettings(env={"VLLM_API_KEY": "secret"})


def test_the_users_variables_win() -> None:
    assert environment(EXE, LAUNCH, {"VLLM_NO_USAGE_STATS": "0"}, {}, api_key=None)["VLLM_NO_USAGE_STATS"] == "0"


def test_what_changes_the_model_is_on_for_this_machine_only() -> None:
    local = Launch(model=Path("/m"), name="m", dev=True, max_rank=16)
    assert environment(EXE, local, {}, {}, api_key=None).items() >= {
        ("VLLM_SERVER_DEV_MODE", "1"),
        ("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "1"),
    }
    inherited = {"VLLM_SERVER_DEV_MODE": "1"}
    plain = environment(EXE, Launch(model=Path("/m"), name="m"), {}, inherited, api_key=None)
    assert "VLLM_SERVER_DEV_MODE" not in plain
    abroad = Launch(model=Path("/m"), name="m", host="0.0.0.0", max_rank=16)
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in environment(EXE, abroad, {}, {}, api_key=None)
    with pytest.raises(SpecError, match=r"127\.0\.0\.1 only"):
        environment(EXE, abroad, {"VLLM_SERVER_DEV_MODE": "1"}, {}, api_key=None)


@pytest.mark.parametrize(("rank", "room"), [(1, 16), (16, 16), (17, 32), (512, 512), (513, None)])
def test_room_for_a_rank(rank: int, room: int | None) -> None:
    assert rank_room(rank) == room


def test_the_executable_is_found_in_an_environment_or_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = tmp_path / "bin" / "vllm"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\n")
    with pytest.raises(SpecError, match=r"serve\.command is .*neither the vllm command nor an environment"):
        find_executable(str(tmp_path))  # not executable
    command.chmod(0o755)
    assert find_executable(str(tmp_path)) == find_executable(str(command)) == command
    monkeypatch.setenv("HARNESS_VLLM", str(tmp_path))
    assert find_executable() == command
    monkeypatch.setenv("HARNESS_VLLM", str(tmp_path / "nothing"))
    with pytest.raises(SpecError, match="HARNESS_VLLM is"):
        find_executable()
    monkeypatch.delenv("HARNESS_VLLM")
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    assert find_executable().name == "vllm"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SpecError, match="pip install vllm"):
        find_executable()


def test_the_share_of_a_gpu() -> None:
    gib = 2**30
    assert share(total=80 * gib, free=80 * gib, needed=0) == 0.9
    assert share(total=80 * gib, free=78 * gib, needed=16 * gib) == 0.75
    assert share(total=16 * gib, free=4 * gib, needed=16 * gib) == 0.1
