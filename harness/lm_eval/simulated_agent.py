"""The agent of simulations under lm-eval: the checkpoint that lm-eval was given, on a managed server."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from harness.core.chat import ChatModel
from harness.core.digest import digest_json
from harness.core.errors import SpecError
from harness.core.serving import Servable, ServeSettings
from harness.engines.chat.retry import OF_OUR_SERVER, RetryingChat
from harness.engines.chat.served import ServedChat


class Agent(NamedTuple):
    """Opens chat models of the agent. `identity` identifies a checkpoint by its files, not by its path."""

    open: Callable[[], ChatModel]
    identity: dict[str, Any]


@contextlib.contextmanager
def served_agent(
    pretrained: Any,
    *,
    adapter: str | None,
    command: str | None,
    arguments: Mapping[str, Any],
    timeout_s: float,
    attempts: int,
) -> Iterator[Agent]:
    """Within the block the agent is the checkpoint on a vLLM server, which starts with the agent's first request.

    `command`: vllm's executable or its environment's folder (docs/serving.md). Raises SpecError.
    """
    from harness.engines.vllm.checkpoint_server import CheckpointServer
    from harness.engines.vllm.executable import find_executable

    if not isinstance(pretrained, str) or not (Path(pretrained) / "config.json").exists():
        raise SpecError(
            f"{pretrained} is no model folder, so it cannot be served; name the agent with "
            "agent_llm=hosted_vllm/NAME,agent_api_base=http://HOST:PORT/v1 among the model arguments"
        )
    settings = ServeSettings(command=command, verify=False)
    find_executable(settings.command)
    servable = _servable(Path(pretrained), None if adapter is None else Path(adapter))
    with CheckpointServer(settings, log_folder=Path(tempfile.mkdtemp(prefix="harness-vllm-"))) as server:

        def opened() -> ChatModel:
            chat = ServedChat(
                lambda: server.endpoint(servable), name="checkpoint", arguments=arguments, timeout_s=timeout_s
            )
            return RetryingChat(chat, replace(OF_OUR_SERVER, attempts=attempts))

        yield Agent(opened, {"model": "checkpoint", "files": servable.fingerprint, "args": dict(arguments)})


def _servable(model: Path, adapter: Path | None) -> Servable:
    """The checkpoint, identified by names, sizes and times of its files: lm-eval measures one checkpoint per process."""
    files = _files(model)
    own = files if adapter is None else digest_json([files, _files(adapter)])
    tokenizer = adapter if adapter is not None and (adapter / "tokenizer_config.json").exists() else model
    return Servable(
        label=str(adapter or model),
        kind="full" if adapter is None else "lora",
        model=model.absolute(),
        adapter=None if adapter is None else adapter.absolute(),
        fingerprint=own,
        model_fingerprint=files,
        tokenizer=tokenizer.absolute(),
        tokenizer_digest=_files(tokenizer),
    )


def _files(folder: Path) -> str:
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    return digest_json([[path.name, (stat := path.stat()).st_size, stat.st_mtime_ns] for path in paths])
