"""Why a real vLLM did not start, in one message; and that it left nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path

import pytest
import tiny
from vllm_here import cpu_settings, needs_vllm

from harness.core.errors import CheckpointError, EngineError, HarnessError
from harness.engines.vllm.guard import descendants
from harness.engines.vllm.server import VllmServer

pytestmark = needs_vllm


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("small") / "model", tiny.llama(hidden_size=128))


def failure(server: VllmServer) -> HarnessError:
    before = set(descendants(os.getpid()))
    with pytest.raises(HarnessError) as found:
        server.start()
    assert set(descendants(os.getpid())) <= before
    assert "\n" not in str(found.value) and len(str(found.value)) < 1500
    return found.value


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    error = failure(VllmServer(tmp_path / "nothing", settings=cpu_settings(), log=tmp_path / "log"))
    assert isinstance(error, CheckpointError) and "no model folder at" in str(error)


def test_an_architecture_that_vllm_does_not_know(model: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    shutil.copytree(model, odd)
    config = json.loads((odd / "config.json").read_text())
    (odd / "config.json").write_text(json.dumps({**config, "architectures": ["Odd"], "model_type": "odd"}))
    error = failure(VllmServer(odd, settings=cpu_settings(), log=tmp_path / "log"))
    assert "odd" in str(error) and "does not start" in str(error)


def test_a_context_that_is_too_long(model: Path, tmp_path: Path) -> None:
    settings = cpu_settings(max_model_len=99999)
    error = failure(VllmServer(model, settings=settings, log=tmp_path / "log"))
    assert "99999" in str(error) and "serve.max_model_len" in str(error)


def test_a_port_in_use(model: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = failure(VllmServer(model, settings=cpu_settings(), log=tmp_path / "log", port=port))
    assert isinstance(error, EngineError) and f"port {port} cannot be used" in str(error)
