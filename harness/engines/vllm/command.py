"""The command line and environment of `vllm serve`. Pure functions; the user's own options win over ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import SpecError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
DROPPABLE = ("--shutdown-timeout", "--uvicorn-log-level")
"""Options of ours that an older vLLM may not know; a start that fails because of one is repeated without it."""
RANKS = (16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM accepts for --max-lora-rank, from its default on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a server is started with. `max_rank` makes room for `max_loras` adapters of up to that rank; with `adapter` (its name and
    folder) that one is there from the start and no other can be loaded, without it they are loaded at run time.

    `dev` switches on the endpoints that swap weights; never for an address that others can reach.
    """

    model: Path
    name: str
    tokenizer: Path | None = None
    parser: str | None = None
    reasoning_parser: str | None = None
    chat_template: Path | None = None
    max_model_len: int | None = None
    dtype: str | None = None
    max_rank: int | None = None
    max_loras: int = 4
    adapter: tuple[str, Path] | None = None
    gpu_memory_utilization: float | None = None
    trust_remote_code: bool = False
    dev: bool = False
    host: str = "127.0.0.1"
    drain_s: int = 5


def spelled(option: str) -> str:
    """An option's name as vLLM reads it: without its value, with hyphens."""
    return option.split("=", 1)[0].replace("_", "-")


def value_of(args: Sequence[str], option: str) -> str | None:
    """The value of an option among the user's, the last one if it is repeated; None where it is not given."""
    found = None
    for index, word in enumerate(args):
        if word.startswith("--") and spelled(word) == option:
            found = word.split("=", 1)[1] if "=" in word else args[index + 1] if index + 1 < len(args) else None
    return found


def check_args(args: Sequence[str]) -> None:
    """Raises SpecError for options that hold a secret, which every user of the machine could see on the command line."""
    names = {spelled(word) for word in args if word.startswith("--")}
    if any(len(name) > 6 and ("--api-key".startswith(name) or "--hf-token".startswith(name)) for name in names):
        raise SpecError(
            "--api-key (or --hf-token) on a command line is seen by everybody on the machine; export the key in a variable and name that "
            "with serve.api_key_env (--api-key-env)"
        )


def is_local(host: str) -> bool:
    """Whether only this machine can reach a server at this address."""
    return host in LOOPBACK


def argv(executable: Path, launch: Launch, args: Sequence[str], *, port: int, without: Iterable[str] = ()) -> list[str]:
    """The command line. Options of `args` replace ours of the same name; `without` leaves some of ours out."""
    ours: list[tuple[str, str | None]] = [
        ("--served-model-name", launch.name),
        ("--host", launch.host),
        ("--port", str(port)),
        ("--shutdown-timeout", str(launch.drain_s)),
        ("--uvicorn-log-level", "warning"),  # not a line per request
    ]
    if launch.tokenizer is not None:
        ours.append(("--tokenizer", str(launch.tokenizer)))
    if launch.parser is not None:
        ours += [("--enable-auto-tool-choice", None), ("--tool-call-parser", launch.parser)]
    if launch.reasoning_parser is not None:
        ours.append(("--reasoning-parser", launch.reasoning_parser))
    if launch.chat_template is not None:
        ours.append(("--chat-template", str(launch.chat_template)))
    if launch.max_model_len is not None:
        ours.append(("--max-model-len", str(launch.max_model_len)))
    if launch.dtype is not None:
        ours.append(("--dtype", launch.dtype))
    if launch.gpu_memory_utilization is not None:
        ours.append(("--gpu-memory-utilization", f"{launch.gpu_memory_utilization:.3f}"))
    if launch.trust_remote_code:
        ours.append(("--trust-remote-code", None))
    if launch.max_rank is not None:
        ours += [
            ("--enable-lora", None),
            ("--max-loras", str(launch.max_loras)),
            ("--max-lora-rank", str(launch.max_rank)),
        ]
    if launch.adapter is not None:
        ours.append(("--lora-modules", "{}={}".format(*launch.adapter)))
    theirs = {spelled(word) for word in args if word.startswith("--")}
    taken = theirs | {name.replace("--no-", "--", 1) for name in theirs} | set(without)
    words = [str(executable), "serve", str(launch.model)]
    for name, value in ours:
        if name not in taken:
            words += [name] if value is None else [name, value]
    return [*words, *args]


def environment(
    executable: Path, launch: Launch, theirs: Mapping[str, str], inherited: Mapping[str, str], *, api_key: str | None
) -> dict[str, str]:
    """The server's environment variables: inherited ones, ours, then the user's. The API key is passed in no other way.

    Raises SpecError for development endpoints on a host that other machines reach.
    """
    env = dict(inherited)
    for name in ("PYTHONPATH", "PYTHONHOME", "VLLM_API_KEY", "VLLM_SERVER_DEV_MODE"):  # another environment than ours
        env.pop(name, None)
    env["PATH"] = f"{executable.parent}:{env.get('PATH', '')}"
    env.setdefault("VLLM_NO_USAGE_STATS", "1")
    if launch.model.is_dir():
        env.setdefault("HF_HUB_OFFLINE", "1")
    if launch.max_rank is not None and launch.adapter is None and is_local(launch.host):
        env.setdefault("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "1")
    if launch.dev:
        env["VLLM_SERVER_DEV_MODE"] = "1"
    env.update(theirs)
    if not is_local(launch.host) and env.get("VLLM_SERVER_DEV_MODE", "0") not in ("", "0"):
        raise SpecError(
            f"VLLM_SERVER_DEV_MODE lets whoever reaches {launch.host} change the model; it is for 127.0.0.1 only"
        )
    if api_key:
        env["VLLM_API_KEY"] = api_key
    return env


def rank_room(rank: int) -> int | None:
    """The smallest --max-lora-rank with room for adapters of `rank`; None where vLLM has none."""
    return next((room for room in RANKS if rank <= room), None)
