"""Checkpoints of the same weights that differ in what else a real vLLM server reads of them, and an engine that is stopped."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from vllm_here import cpu_settings, needs_vllm

from harness.checkpoints.find import find_checkpoints
from harness.checkpoints.open import Opener
from harness.core.chat import ChatRequest, EndpointError
from harness.core.endpoint import Endpoint
from harness.core.errors import CheckpointError
from harness.core.opening import OpenOptions
from harness.core.serving import ServeSettings
from harness.engines.chat.http_chat import HttpChat
from harness.engines.vllm.api import Api
from harness.engines.vllm.server import VllmServer

pytestmark = needs_vllm


@pytest.fixture(scope="module")
def opener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opener]:
    logs = tmp_path_factory.mktemp("logs")
    with closing(
        Opener(OpenOptions(dtype="auto", device="cpu", serve=cpu_settings(max_model_len=512)), log_folder=logs)
    ) as opened:
        yield opened


@pytest.fixture(scope="module")
def twin(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tool model's weights under another chat template."""
    folder = tmp_path_factory.mktemp("twin") / "twin"
    shutil.copytree(tools, folder)
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(template.replace("<|im_start|>system", "<|im_start|>system at work"))
    return folder


def served(opener: Opener, folder: Path) -> Endpoint:
    (checkpoint,) = find_checkpoints([str(folder)])
    with opener.open(checkpoint) as subject:
        return subject.endpoint()


def prompt(endpoint: Endpoint) -> list[int]:
    api = Api(endpoint.api_base.removesuffix("/v1"))
    return api.tokenize(
        endpoint.model, [{"role": "system", "content": "You help."}, {"role": "user", "content": "Hi"}], []
    )


def test_the_same_weights_with_another_template_are_served_with_it(opener: Opener, tools: Path, twin: Path) -> None:
    first = served(opener, tools)
    assert first.note is None, "vLLM's prompts are the checkpoint's own"
    assert first.own_length == 4096 and first.max_model_len == 512
    own = prompt(first)
    other = served(opener, twin)
    assert other.how == "restart" and other.note is None and prompt(other) != own
    assert served(opener, twin).how == "kept"


def test_a_server_of_the_users_own_with_another_template_is_refused(opener: Opener, tools: Path, twin: Path) -> None:
    there = served(opener, twin)
    with closing(Opener(OpenOptions(dtype="auto", device="cpu", serve=ServeSettings(url=there.api_base)))) as other:
        with pytest.raises(CheckpointError, match=r"prompt of .* tokens that is not"):
            served(other, tools)
        assert served(other, twin).how == "external"


def test_an_engine_that_is_stopped_is_started_again_within_a_minute(opener: Opener, twin: Path) -> None:
    served(opener, twin)
    assert opener.serving.server is not None
    before = opener.serving.server.pids()
    engines = [
        pid
        for pid in before
        if b"Engine" in Path(f"/proc/{pid}/comm").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert engines
    for pid in engines:
        os.kill(pid, signal.SIGSTOP)
    stopped = time.monotonic()
    while any(Path(f"/proc/{pid}").exists() for pid in before):
        assert time.monotonic() - stopped < 30
        time.sleep(0.1)
    assert served(opener, twin).how == "restart"


@pytest.mark.long  # tests/engines/chat has such answers as vLLM writes them
def test_an_answer_made_of_nan_is_a_failure(tools: Path, tmp_path: Path) -> None:
    """A row that the probe does not meet, on a server that nobody looked through the weights for."""
    folder = tmp_path / "broken"
    shutil.copytree(tools, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][1] = torch.nan  # <|im_start|>, in every conversation
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with VllmServer(folder, settings=cpu_settings(max_model_len=512), log=tmp_path / "log") as server:
        there = server.endpoint
        chat = HttpChat(
            name="m",
            model=there.model,
            api_base=there.api_base,
            api_key=None,
            arguments={},
            timeout_s=60,
            logprobs=True,
        )

        async def ask() -> None:
            try:
                await chat.answer(ChatRequest(messages=[{"role": "user", "content": "Hi"}]))
            finally:
                await chat.close()

        with pytest.raises(EndpointError, match="no finite log-prob"):
            asyncio.run(ask())
