"""The settings of simulations of a domain: validated, described, the same for a command line, a spec and lm-eval.

They determine the plan (plan.py) and, with it, a run's identity. Messages name keys; a command line replaces them by its options (flat.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, JsonValue, ValidationError, field_validator

from harness.core.chat_config import ChatConfig
from harness.core.errors import SpecError
from harness.core.measurement import Record, describe
from harness.core.tau2.upstream import upstream_of
from harness.tau2.simulate.loop import Greeting, Limits
from harness.tau2.simulate.seeds import DEFAULT_SEED
from harness.tau2.simulate.utterance import AnswerLimits

CHECKPOINT = "checkpoint"
"""A model's name that means the checkpoint that is measured."""
MOST_TRIALS = 10_000
"""Trials of a task at most, because all jobs of a run are listed before it begins."""


class AgentConfig(ChatConfig):
    """The agent: who it is and how it is asked."""

    model: str = Field(default=CHECKPOINT, min_length=1, description="the checkpoint that is measured")
    instructions: str | None = Field(default=None, description="replaces our text at the top of the agent's prompt")


class Participants(Record):
    """The models that take part, their timeouts and attempts."""

    agent: AgentConfig = Field(
        default=AgentConfig(), description="how the checkpoint is asked: sampling options, and a text in place of ours"
    )
    user: ChatConfig | None = Field(
        default=None, description="the model that plays the user; model: checkpoint is the measured one; none with solo"
    )
    nl_judge: ChatConfig | None = Field(
        default=None,
        description="the model that judges natural-language assertions; default: tasks that need it stay open",
    )
    reviewer: ChatConfig | None = Field(
        default=None,
        description="a model that looks for the errors in failed simulations, which may change whose fault they are, never a reward; default: "
        "rules say whose they are",
    )
    request_timeout_s: float = Field(default=300.0, gt=0, description="seconds of one answer")
    attempts: int = Field(default=6, ge=1, description="attempts at one answer when an endpoint fails")
    transport: Literal["auto", "direct", "litellm"] = Field(
        default="auto", description="how endpoints are asked; direct: OpenAI's protocol"
    )
    max_concurrency: int | None = Field(
        default=None, ge=1, description="simulations in flight; default: serve.parallel"
    )

    def others(self) -> dict[str, ChatConfig]:
        """The models besides the agent, by the part they play."""
        parts = {"user": self.user, "nl_judge": self.nl_judge, "reviewer": self.reviewer}
        return {part: chat for part, chat in parts.items() if chat is not None}

    def identity(self) -> dict[str, JsonValue]:
        """The models that take part, as JSON; None for a role without one."""
        found: dict[str, JsonValue] = {"agent": self.agent.identity(), "user": None, "nl_judge": None, "reviewer": None}
        return {**found, **{part: chat.identity() for part, chat in self.others().items()}}


class Tau2Settings(Participants):
    """What is simulated: a domain, some of its tasks, and the rules of the conversation."""

    domain: str = Field(description="airline, retail, telecom, telecom-workflow, banking_knowledge or mock")
    trials: int = Field(
        default=1, ge=1, le=MOST_TRIALS, description="simulations per task; pass^k for every k up to it"
    )
    split: str | None = Field(default=None, description="which tasks; default: base, or all of tasks_file")
    task_ids: list[str] = Field(default=[], description="only these tasks")
    num_tasks: int | None = Field(default=None, ge=1, description="only the first so many tasks")
    tasks_file: str | None = Field(default=None, description="tasks of another revision, relative to the spec")
    data: str | None = Field(default=None, description="a folder with a folder per domain, relative to the spec")
    source: Literal["auto", "inspect_evals", "tau2"] = Field(
        default="auto", description="whose environments; tau2: upstream's own package"
    )
    retrieval: str | None = Field(
        default=None,
        description="how banking_knowledge finds documents: grep_only, full_kb, no_knowledge, or with upstream's package any of its ways; default: grep_only, there its default",
    )
    solo: bool = Field(default=False, description="no user: a ticket, and the tools of both sides (telecom, mock)")
    greeting: Greeting = Field(
        default="send",
        description="hide: the agent is not shown its own greeting, for templates that insist on a user first",
    )
    upstream: list[str] = Field(default=[], description="do this as upstream does: names of docs/tau2.md, or all")
    seed: int = Field(default=DEFAULT_SEED, description="the trials' seeds are drawn from it")
    max_steps: int = Field(default=200, ge=1, description="steps of a simulation")
    max_errors: int = Field(default=10, ge=1, description="tool errors of a simulation")
    max_calls: int = Field(default=256, ge=1, description="tool calls of one message")
    timeout_s: float | None = Field(default=None, gt=0, description="seconds of a simulation; default: no limit")

    @field_validator("upstream")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        try:
            upstream_of(value)
        except SpecError as error:
            raise ValueError(str(error)) from error
        return value

    def user_problem(self) -> str | None:
        """A message if there is a user in a solo run, or none in another; else None."""
        if self.solo == (self.user is not None):
            return (
                "`solo` has no user, so leave `user` out"
                if self.solo
                else "name the user's model with `user`, such as hosted_vllm/NAME, or choose `solo`"
            )
        return None

    def limits(self) -> Limits:
        """The limits at which a simulation ends."""
        return Limits(
            max_steps=self.max_steps,
            max_errors=self.max_errors,
            timeout_s=self.timeout_s,
            answer=AnswerLimits(calls=self.max_calls),
        )


def participants_of(values: Mapping[str, Any]) -> Participants:
    """Validate participants. Raises SpecError naming the keys that are wrong."""
    try:
        return Participants.model_validate(dict(values))
    except ValidationError as error:
        raise SpecError(describe(error, Participants)) from error


def settings_of(values: Mapping[str, Any]) -> Tau2Settings:
    """Validate settings. Raises SpecError naming the keys that are wrong."""
    try:
        return Tau2Settings.model_validate(dict(values))
    except ValidationError as error:
        raise SpecError(describe(error, Tau2Settings)) from error


def identity_as_now(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A run's stored settings, of which earlier versions wrote three forms, in today's form."""
    found = {key: value for key, value in stored.items() if key not in ("metric", "trials", "serve")}
    for part in ("agent", "user", "nl_judge", "reviewer"):
        value = found.get(part)
        if isinstance(value, str):
            found[part] = {"model": value, "args": {"temperature": 0.0}}
        elif isinstance(value, dict) and "model" not in value:
            found[part] = {"model": CHECKPOINT, "args": value}
        elif isinstance(value, dict) and "arguments" in value:
            found[part] = {("args" if key == "arguments" else key): item for key, item in value.items()}
    return found
