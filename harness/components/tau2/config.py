"""Keys of `kind: tau2` in a spec. Records only: components/tau2/component.py measures by them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue, field_validator, model_validator

from harness.core.component import ComponentConfig
from harness.core.errors import SpecError
from harness.core.measurement import Record
from harness.core.sampling import unfit_sampling
from harness.core.tau2.upstream import upstream_of
from harness.tau2.simulate.loop import Greeting
from harness.tau2.simulate.seeds import DEFAULT_SEED

GREEDY: dict[str, Any] = {"temperature": 0.0}


def _fit(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if wrong := unfit_sampling(value):
        raise ValueError(wrong)
    return value


Sampling = Annotated[dict[str, JsonValue], AfterValidator(_fit)]


class ChatConfig(Record):
    """A model that takes part. `checkpoint` as its name is the checkpoint that is measured."""

    model: str = Field(min_length=1, description="hosted_vllm/NAME, openai/NAME, any of litellm's; or checkpoint")
    api_base: str | None = Field(default=None, description="address of its endpoint, ending in /v1")
    api_key_env: str | None = Field(default=None, description="environment variable that holds its key")
    args: Sampling = Field(default=GREEDY, description="sampling options sent with every request")

    @field_validator("args")
    @classmethod
    def _no_key(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if "api_key" in value:
            raise ValueError("args holds an api_key, which would end in files; export it and name it in api_key_env")
        return value


class AgentConfig(Record):
    """How the checkpoint is asked."""

    args: Sampling = Field(default=GREEDY, description="sampling options sent with every request")
    instructions: str | None = Field(default=None, description="replaces our text at the top of the agent's prompt")


class Tau2Config(ComponentConfig):
    """Keys of a tau2 component."""

    kind: Literal["tau2"]
    domain: str = Field(description="airline, retail, telecom or mock; banking_knowledge where upstream's package is")
    user: ChatConfig | None = Field(default=None, description="the model that plays the user; not with solo")
    agent: AgentConfig = Field(default=AgentConfig(), description="how the checkpoint is asked")
    nl_judge: ChatConfig | None = Field(
        default=None,
        description="the model that judges natural-language assertions; null: tasks that need it stay open",
    )
    reviewer: ChatConfig | None = Field(
        default=None,
        description="a model that looks for the errors in failed simulations; null: rules say whose they are",
    )
    trials: int = Field(default=1, ge=1, description="simulations per task")
    split: str | None = Field(default=None, description="which tasks; null: base, or all of tasks_file")
    task_ids: list[str] = Field(default=[], description="only these tasks")
    num_tasks: int | None = Field(default=None, ge=1, description="only the first so many tasks")
    tasks_file: str | None = Field(default=None, description="tasks of another revision, relative to the spec")
    data: str | None = Field(default=None, description="a folder with a folder per domain, relative to the spec")
    source: Literal["auto", "inspect_evals", "tau2"] = Field(
        default="auto", description="whose environments; tau2: upstream's own package"
    )
    retrieval: str | None = Field(default=None, description="how banking_knowledge finds documents; null: upstream's")
    solo: bool = Field(default=False, description="no user: a ticket, and the tools of both sides (telecom, mock)")
    greeting: Greeting = Field(default="send", description="hide: the agent is not shown its own greeting")
    upstream: list[str] = Field(default=[], description="do this as upstream does: names of docs/tau2.md, or all")
    seed: int = Field(default=DEFAULT_SEED, description="the trials' seeds are drawn from it")
    max_steps: int = Field(default=200, ge=1, description="steps of a simulation")
    max_errors: int = Field(default=10, ge=1, description="tool errors of a simulation")
    max_calls: int = Field(default=256, ge=1, description="tool calls of one message")
    timeout_s: float | None = Field(default=None, gt=0, description="seconds of a simulation; null: no limit")
    request_timeout_s: float = Field(default=300.0, gt=0, description="seconds of one answer")
    max_concurrency: int | None = Field(default=None, ge=1, description="simulations in flight; null: serve.parallel")

    @field_validator("upstream")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        try:
            upstream_of(value)
        except SpecError as error:
            raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _user_or_solo(self) -> Tau2Config:
        if self.solo == (self.user is not None):
            raise ValueError(
                "solo has no user, so leave `user` out"
                if self.solo
                else "name the user's model, such as user: {model: hosted_vllm/NAME, api_base: ...}, or set solo: true"
            )
        return self

    def others(self) -> dict[str, ChatConfig]:
        """The models besides the agent, by the part they play."""
        parts = {"user": self.user, "nl_judge": self.nl_judge, "reviewer": self.reviewer}
        return {part: chat for part, chat in parts.items() if chat is not None}
