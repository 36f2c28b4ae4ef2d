"""What upstream's loader (tau2-bench v1.0.1) requires of a simulation in a results file, for runs in text.

Field names and types are upstream's, keys that it ignores are ignored, and the JSON parser is the same, with its limits: so `problem`
gives upstream's own error. Knows nothing of our records.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Tag, ValidationError

from harness.core.measurement import first_problem
from harness.core.tau2.task import RewardType

Side = Literal["user", "assistant"]


class Call(BaseModel):
    """A tool call."""

    id: str = ""
    name: str
    arguments: dict[str, Any]
    requestor: Side = "assistant"


class SystemMessage(BaseModel):
    """A system message."""

    role: Literal["system"]
    content: str | None = None
    turn_idx: int | None = None
    timestamp: str | None = None


class SpokenMessage(BaseModel):
    """A message of agent or user."""

    role: Side
    content: str | None = None
    tool_calls: list[Call] | None = None
    turn_idx: int | None = None
    timestamp: str | None = None
    cost: float | None = None
    usage: dict[str, Any] | None = None
    raw_data: dict[str, Any] | None = None
    generation_time_seconds: float | None = None


class ToolMessage(BaseModel):
    """A tool's answer."""

    id: str
    role: Literal["tool"]
    content: str | None = None
    requestor: Side = "assistant"
    error: bool = False
    turn_idx: int | None = None
    timestamp: str | None = None


class SeveralToolMessages(BaseModel):
    """Answers to the calls of one message."""

    role: Literal["tool"]
    tool_messages: list[ToolMessage]


def _kind(value: Any) -> str | None:
    role = value.get("role") if isinstance(value, dict) else None
    if role == "tool":
        return "several" if "tool_messages" in value else "tool"
    return "spoken" if role in ("user", "assistant") else "system"


Message = Annotated[
    Annotated[SystemMessage, Tag("system")]
    | Annotated[SpokenMessage, Tag("spoken")]
    | Annotated[ToolMessage, Tag("tool")]
    | Annotated[SeveralToolMessages, Tag("several")],
    Discriminator(_kind),
]


class Action(BaseModel):
    """A reference action."""

    action_id: str
    requestor: Side = "assistant"
    name: str
    arguments: dict[str, Any]
    info: str | None = None
    compare_args: list[str] | None = None


class EnvAssertion(BaseModel):
    """An assertion on the environment."""

    env_type: Side
    func_name: str
    arguments: dict[str, Any]
    assert_value: bool = True
    message: str | None = None


class DBCheck(BaseModel):
    """Whether the databases are equal."""

    db_match: bool
    db_reward: float


class ActionCheck(BaseModel):
    """Whether a reference action was made."""

    action: Action
    action_match: bool
    action_reward: float
    tool_type: Literal["read", "write", "think", "generic"] | None = None


class EnvAssertionCheck(BaseModel):
    """Whether an assertion held."""

    env_assertion: EnvAssertion
    met: bool
    reward: float


class CommunicateCheck(BaseModel):
    """Whether a string was said."""

    info: str
    met: bool
    justification: str


class NLAssertionCheck(BaseModel):
    """A judge's verdict on an assertion."""

    nl_assertion: str
    met: bool
    justification: str


class RewardInfo(BaseModel):
    """A verdict."""

    reward: float
    db_check: DBCheck | None = None
    env_assertions: list[EnvAssertionCheck] | None = None
    action_checks: list[ActionCheck] | None = None
    nl_assertions: list[NLAssertionCheck] | None = None
    communicate_checks: list[CommunicateCheck] | None = None
    reward_basis: list[RewardType] | None = None
    reward_breakdown: dict[RewardType, float] | None = None
    info: dict[str, Any] | None = None


class SimulationRun(BaseModel):
    """A simulation. `messages` may be null upstream, in runs with speech; here it may not."""

    id: str
    task_id: str
    timestamp: str = ""
    start_time: str
    end_time: str
    duration: float
    termination_reason: Literal[
        "user_stop",
        "agent_stop",
        "max_steps",
        "timeout",
        "too_many_errors",
        "agent_error",
        "user_error",
        "infrastructure_error",
        "context_window_exceeded",
        "unexpected_error",
    ]
    agent_cost: float | None = None
    user_cost: float | None = None
    reward_info: RewardInfo | None = None
    messages: list[Message]
    trial: int | None = None
    seed: int | None = None
    mode: str = "half_duplex"


class Document(BaseModel):
    """As much of a results file as decides whether its simulations load."""

    simulations: list[SimulationRun]


def problem(value: Mapping[str, Any]) -> str | None:
    """Why upstream would not load a simulation; None where it would."""
    try:
        Document.model_validate_json(json.dumps({"simulations": [value]}))
    except ValidationError as error:
        return first_problem(error).removeprefix("simulations.0.")
    return None
