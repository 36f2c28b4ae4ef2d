"""A tau2 task: the scenario, how the environment starts, and what counts as success. Records only.

Field names are those of upstream's task files, so that a file is read without a translation table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.core.tau2.message import Message, Requestor

RewardType = Literal["DB", "ENV_ASSERTION", "NL_ASSERTION", "ACTION", "COMMUNICATE"]
REWARD_TYPES: tuple[RewardType, ...] = ("DB", "ENV_ASSERTION", "ACTION", "COMMUNICATE", "NL_ASSERTION")


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """A reference call. `compare_args` None: all the keys that the call made has; see reward_models.tau2."""

    name: str
    arguments: dict[str, Any]
    action_id: str = ""
    requestor: Requestor = "assistant"
    compare_args: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionCall:
    """A call of a function of the agent's or the user's side of the environment; it need not be a tool."""

    env_type: Requestor
    func_name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion(FunctionCall):
    """A function of the environment that must return `assert_value` at the end."""

    assert_value: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class InitializationData:
    """Merged into the databases before anything else happens."""

    agent_data: dict[str, Any] | None = None
    user_data: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialState:
    """How a task's environment differs from the domain's, in the order in which it is applied."""

    initialization_data: InitializationData | None = None
    initialization_actions: tuple[FunctionCall, ...] | None = None
    message_history: tuple[Message, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """What a simulation is judged by; `reward_basis` names the components that gate the reward."""

    actions: tuple[Action, ...] | None = None
    env_assertions: tuple[Assertion, ...] | None = None
    communicate_info: tuple[str, ...] | None = None
    nl_assertions: tuple[str, ...] | None = None
    reward_basis: tuple[RewardType, ...] = ("DB", "COMMUNICATE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task. `user_scenario` is the simulated user's text, as in the file.

    `user_tools` names those of the user's tools that this task's user has; None: all. `written` is the task's JSON as in the
    file, with the keys that this program does not read (description, notes, turns), because upstream compares tasks whole. It is
    no part of what the task means.
    """

    id: str
    user_scenario: dict[str, Any] = field(default_factory=dict)
    ticket: str | None = None
    initial_state: InitialState | None = None
    evaluation_criteria: Criteria | None = None
    user_tools: tuple[str, ...] | None = None
    written: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
