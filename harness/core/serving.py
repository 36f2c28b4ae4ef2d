"""How checkpoints are to be served (the spec's key `serve`), and what is. Knows no server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue, model_validator

from harness.core.credential import Address, Variable
from harness.core.digest import digest_bytes
from harness.core.errors import SpecError, why_unreadable
from harness.core.measurement import Record
from harness.core.serve_args import deciding
from harness.core.vector import CheckpointKind


class ServeSettings(Record):
    """Keys of `serve`. Without them a vLLM server is started as needed, with its own defaults, on 127.0.0.1."""

    command: str | None = Field(
        default=None,
        description="the vllm executable, or the folder of an environment that has it; default: $HARNESS_VLLM, this "
        "environment's, or the one on PATH",
    )
    url: Address | None = Field(
        default=None, description="a server of your own, http://host:port/v1, instead of a managed one"
    )
    api_key_env: Variable | None = Field(default=None, description="environment variable that holds the server's key")
    args: list[str] = Field(
        default=[],
        description="further options of `vllm serve`, as they are; one that we would give too replaces ours, and those that may change an "
        "answer (`--quantization`, `--dtype`, ...) are a part of what is measured",
    )
    env: dict[str, str] = Field(
        default={},
        description="environment variables of the server; names that end in _KEY, _TOKEN, _SECRET or _PASSWORD are refused, because a spec "
        "ends in files",
    )
    tool_call_parser: str | None = Field(
        default=None, description="vLLM's name of the parser of tool calls; default: by chat template and model"
    )
    reasoning_parser: str | None = Field(
        default=None,
        description="vLLM's name of the parser that tells thoughts from what is said; default: by chat template, model and tokenizer",
    )
    chat_template: str | None = Field(default=None, description="Jinja file; default: the checkpoint's own")
    max_model_len: int | None = Field(
        default=None, ge=1, description="tokens of prompt and answer together; default: the model's own"
    )
    startup_timeout_s: float = Field(default=900.0, gt=0, description="seconds until a server must answer")
    parallel: int = Field(default=64, ge=1, description="requests in flight at most")
    max_loras: int = Field(default=4, ge=1, description="adapters beside each other on one server")
    verify: bool = Field(
        default=True, description="compare what is served with the checkpoint's own log-probs after each start or swap"
    )

    @model_validator(mode="after")
    def _one_server(self) -> ServeSettings:
        managed = [name for name in ("command", "args", "env") if getattr(self, name)]
        if self.url and managed:
            raise ValueError(f"serve: url names a server of your own, so {', '.join(managed)} cannot be given")
        secret = [name for name in self.env if name.upper().endswith(("_KEY", "_TOKEN", "_SECRET", "_PASSWORD"))]
        if secret:
            raise ValueError(
                f"serve.env: a key in a spec ends in files, and {', '.join(secret)} may be one; export it before you start (a "
                "server inherits what is exported), the server's own key under a name for api_key_env"
            )
        return self

    def resolved(self, folder: Path) -> ServeSettings:
        """Paths relative to the spec's folder become paths relative to here; a bare name that is not there stays a name."""
        command, template = self.command, self.chat_template
        if command is not None and ("/" in command or (folder / command).exists()):
            command = str(folder / Path(command).expanduser())
        return self.model_copy(
            update={"command": command, "chat_template": template and str(folder / Path(template).expanduser())}
        )

    def meaning(self) -> dict[str, JsonValue]:
        """The settings that decide answers, as content. Raises SpecError for a chat template that cannot be read."""
        template = None
        if self.chat_template is not None:
            try:
                content = Path(self.chat_template).read_bytes()
                content.decode("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise SpecError(
                    f"serve.chat_template: cannot read {self.chat_template} ({why_unreadable(error)})"
                ) from error
            template = digest_bytes(content)
        return {
            "chat_template": template,
            "tool_call_parser": self.tool_call_parser,
            "max_model_len": self.max_model_len,
            **({} if self.reasoning_parser is None else {"reasoning_parser": self.reasoning_parser}),
            **self.options(),
        }

    def options(self) -> dict[str, JsonValue]:
        """Those of `args` that decide answers, under the key `args`; empty without any. Raises SpecError."""
        found: list[JsonValue] = [list[JsonValue](option) for option in deciding(self.args)]
        return {"args": found} if found else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Servable:
    """A checkpoint as a server needs it. `model` is its folder, for an adapter its base's; `adapter` the adapter's.

    `fingerprint` is of the weights (with the base's, for an adapter), `model_fingerprint` of those in `model`.
    `tokenizer` is the folder whose tokenizer and chat template it is used with, `tokenizer_digest` identifies its content.
    `logprobs(ids)` gives the checkpoint's own log P(ids[i] | ids[:i]) for i >= 1, in nats; it may load the model.
    `render(messages, tools)` gives the token ids of a conversation by its own tokenizer and chat template, and raises where the
    template refuses it. `notes`: what a reader of numbers should know about what is served. `opens_thought`: whether prompts end within a thought.
    """

    label: str
    kind: CheckpointKind
    model: Path
    fingerprint: str
    model_fingerprint: str
    tokenizer: Path
    tokenizer_digest: str
    adapter: Path | None = None
    logprobs: Callable[[Sequence[int]], Sequence[float]] | None = None
    render: Callable[[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]], list[int]] | None = None
    notes: tuple[str, ...] = ()
    opens_thought: bool = False
