"""How checkpoints are to be served: the spec's key `serve`. Knows no server."""

from __future__ import annotations

from pydantic import Field, model_validator

from harness.core.measurement import Record


class ServeSettings(Record):
    """Keys of `serve`. Without them a vLLM server is started as needed, with its own defaults, on 127.0.0.1."""

    command: str | None = Field(
        default=None,
        description="the vllm executable, or the folder of an environment that has it; null: $HARNESS_VLLM, this "
        "environment's, or the one on PATH",
    )
    url: str | None = Field(
        default=None, description="a server of your own, http://host:port/v1, instead of a managed one"
    )
    api_key_env: str | None = Field(default=None, description="environment variable that holds the server's key")
    args: list[str] = Field(default=[], description="further options of `vllm serve`, passed through as they are")
    env: dict[str, str] = Field(default={}, description="environment variables of the server")
    tool_call_parser: str | None = Field(
        default=None, description="vLLM's name of the parser of tool calls; null: by model"
    )
    chat_template: str | None = Field(default=None, description="Jinja file; null: the checkpoint's own")
    max_model_len: int | None = Field(default=None, ge=1, description="tokens; null: the model's own")
    startup_timeout_s: float = Field(default=900.0, gt=0, description="seconds until a server must answer")
    parallel: int = Field(default=64, ge=1, description="requests in flight at most")

    @model_validator(mode="after")
    def _one_server(self) -> ServeSettings:
        managed = [name for name in ("command", "args", "env") if getattr(self, name)]
        if self.url and managed:
            raise ValueError(f"serve: url names a server of your own, so {', '.join(managed)} cannot be given")
        return self
