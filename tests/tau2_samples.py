"""Recorded simulations and task files that lie beside the repository, and played ones. Tests skip, by name, what is absent."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.core.tau2.message import Message, ToolCall
from harness.core.tau2.simulation import Simulation
from harness.core.tau2.task import Task
from harness.tasks.tau2.domain import Domain

NAMES = ("airline", "retail", "telecom", "mock")


def folder() -> Path:
    """The folder `shared`: $HARNESS_SHARED, else the one beside the repository."""
    return Path(os.environ.get("HARNESS_SHARED") or Path(__file__).resolve().parents[2] / "shared")


def must_run() -> bool:
    """Whether nothing may be skipped for want of recordings: under CI, where the folder is there or is named."""
    there = bool(os.environ.get("HARNESS_SHARED")) or (folder() / "tau2_parity").is_dir()
    return os.environ.get("CI") == "true" and there


needs_port = pytest.mark.skipif(
    importlib.util.find_spec("inspect_evals") is None and not must_run(),
    reason="inspect-evals is not installed (the extra tau2)",
)


def names_in(name: str, pattern: str) -> list[str]:
    """The files of a shared folder, for tests that are one per file; one name that is absent where there are none."""
    return sorted(path.name for path in (folder() / name).glob(pattern)) or ["absent"]


def shared(*parts: str) -> Path:
    """A file of the folder `shared`. Where it is absent the test is skipped, and fails if it must run."""
    path = folder().joinpath(*parts)
    if not path.exists():
        words = f"{path} is absent; point HARNESS_SHARED at the folder that has {'/'.join(parts)}"
        pytest.fail(words) if must_run() else pytest.skip(words)
    return path


def play(domain: Domain, task: Task) -> list[Message]:
    """The transcript of an agent that makes every reference call and says every required string."""
    environment = domain.environment()
    environment.initialize(task.initial_state)
    messages = list((task.initial_state and task.initial_state.message_history) or ())
    environment.replay(messages)
    criteria = task.evaluation_criteria
    assert criteria is not None
    for number, action in enumerate(criteria.actions or ()):
        call = ToolCall(id=f"c{number}", name=action.name, arguments=action.arguments, requestor=action.requestor)
        answer = environment.call(call)
        messages.append(Message(role=action.requestor, tool_calls=(call,)))
        messages.append(
            Message(role="tool", id=call.id, content=answer.content, error=answer.error, requestor=action.requestor)
        )
    messages += [Message(role="assistant", content=f"It is {wanted}.") for wanted in criteria.communicate_info or ()]
    return messages


def simulation(task: Task, messages: Sequence[Message], **changes: Any) -> Simulation:
    """A simulation that the user ended."""
    settings: dict[str, Any] = {"id": "s", "task_id": task.id, "termination_reason": "user_stop"}
    return Simulation(messages=tuple(messages), **{**settings, **changes})


def recorded(**changes: Any) -> dict[str, Any]:
    """A simulation of mock's first task as it stands in upstream's results: the reference call, then a word."""
    call = {"id": "c0", "name": "create_task", "arguments": {"user_id": "user_1", "title": "Important Meeting"}}
    value: dict[str, Any] = {
        "id": "good",
        "task_id": "create_task_1",
        "termination_reason": "user_stop",
        "messages": [
            {"role": "assistant", "content": "Hi! How can I help you today?"},
            {"role": "user", "content": "A task, please."},
            {"role": "assistant", "tool_calls": [{**call, "requestor": "assistant"}]},
            {"role": "tool", "id": "c0", "content": "{}", "requestor": "assistant", "error": False},
            {"role": "assistant", "content": "Done."},
        ],
    }
    return {**value, **changes}


def calling(name: str, arguments: Any, **changes: Any) -> dict[str, Any]:
    """A recorded simulation whose only call is this one."""
    call = {"id": "c0", "name": name, "arguments": arguments, "requestor": "assistant"}
    messages = [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "id": "c0", "content": "x", "requestor": "assistant", "error": True},
    ]
    return recorded(messages=messages, **changes)


def task_value(task_id: str = "create_task_1", **criteria: Any) -> dict[str, Any]:
    """A task as it stands in a task file; mock's first one by default."""
    call = {"action_id": "a", "name": "create_task", "arguments": {"user_id": "user_1", "title": "Important Meeting"}}
    return {
        "id": task_id,
        "user_scenario": {"instructions": "x"},
        "evaluation_criteria": {"actions": [call], **criteria},
    }


def results(*simulations: Any, tasks: Sequence[Any] = (), domain: str | None = "mock") -> dict[str, Any]:
    """A document in upstream's results format."""
    return {
        "info": {"environment_info": {"domain_name": domain}, "agent_info": {"implementation": "llm_agent"}},
        "tasks": list(tasks) or [task_value()],
        "simulations": list(simulations),
    }
