"""One simulation as a line of a run's file, with upstream's keys: writes it, and reads it back as a result or as a conversation.

Pure functions. tasks/tau2/recording.py reads lines of every origin as recordings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from harness.core.chat import Usage
from harness.core.tau2.end_state import EndState
from harness.core.tau2.fault import CAUSES, Fault
from harness.core.tau2.message import Message
from harness.core.tau2.simulation import Simulation
from harness.core.tau2.task import REWARD_TYPES, Task
from harness.reward_models.tau2.result import Conversation, Key, Result
from harness.reward_models.tau2.reward import NOTHING, Verdict
from harness.tasks.tau2.task_file import task_value
from harness.tau2.judging.nl_judge import Judged
from harness.tau2.judging.reviewer import Reviewed
from harness.tau2.recordings.upstream_format import reward_info
from harness.tau2.simulate.loop import Played

INFRASTRUCTURE = "infrastructure_error"
NO_KINDS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A simulation that ran, with its transcript; `played` None where no attempt came to an end."""

    key: Key
    result: Result
    played: Played | None
    judged: Judged | None = None
    end: EndState | None = None
    reviewed: Reviewed | None = None
    started: str = ""


def _usage(usage: Usage) -> dict[str, Any]:
    return {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}


def message_json(message: Message, usage: Usage | None) -> dict[str, Any]:
    """A message with upstream's keys; what is empty is left out."""
    value: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning:
        value["reasoning_content"] = message.reasoning
    if message.role == "tool":
        return {**value, "id": message.id, "requestor": message.requestor, "error": message.error}
    if message.tool_calls:
        value["tool_calls"] = [
            {"id": call.id, "name": call.name, "arguments": call.arguments, "requestor": call.requestor}
            for call in message.tool_calls
        ]
    if usage is not None:
        value["usage"] = _usage(usage)
        if usage.cost is not None:
            value["cost"] = usage.cost
    return value


def _reward_info(done: Done, task: Task, kinds: Mapping[str, str]) -> dict[str, Any] | None:
    """Upstream's record of the verdict with its single checks, but with every known component, also those that do not gate."""
    verdict = done.result.verdict
    if verdict.reward is None:
        return None
    judged = done.judged if done.judged is not None and done.judged.met is not None else None
    info: dict[str, Any] = {"reward": verdict.reward}
    if done.played is not None:
        info = reward_info(
            task,
            simulation_of(done.key, done.played),
            verdict,
            end=done.end,
            nl_met=judged.met if judged else None,
            nl_reasons=judged.reasons if judged else (),
            fault=done.result.fault,
            kinds=kinds,
        )
    known = {name: value for name, value in verdict.components.items() if value is not None}
    return {**info, "reward_basis": list(verdict.basis), "reward_breakdown": known}


def as_line(
    done: Done,
    *,
    task: Task,
    domain: str,
    source: str,
    solo: bool,
    kinds: Mapping[str, str] = NO_KINDS,
    run_info: Mapping[str, Any] | None = None,
    any_number: bool = False,
) -> str:
    """One line of JSON. Raises ValueError for NaN (arguments with one are refused before) unless `any_number` allows it.

    `kinds`: tool name -> upstream's kind of tool, for its checks of actions. `run_info`: upstream's `info` of the run.
    """
    result, played = done.result, done.played
    value: dict[str, Any] = {
        "id": f"{domain}-{done.key.task_id}-{done.key.trial}",
        "task_id": done.key.task_id,
        "trial": done.key.trial,
        "seed": done.key.seed,
        "domain": domain,
        "source": source,
        "solo": solo,
        "termination_reason": result.termination,
        "reason": result.reason or result.verdict.reason,
        "reward_info": _reward_info(done, task, kinds),
        "start_time": done.started,
        "duration": round(result.seconds, 3),
        "agent_cost": result.agent.cost,
        "user_cost": result.user.cost,
        "usage": {
            "agent": _usage(result.agent),
            "user": _usage(result.user),
            "judge": {**_usage(result.judge), "cost": result.judge.cost},
            "reviewer": {**_usage(result.reviewer), "cost": result.reviewer.cost},
        },
        "fault": None if result.fault is None else result.fault.as_json(),
        **({} if done.reviewed is None else done.reviewed.as_json()),
        "excluded": result.excluded,
        "messages": []
        if played is None
        else [
            {**message_json(message, usage), "turn_idx": turn}
            for turn, (message, usage) in enumerate(zip(played.messages, played.usages, strict=True))
        ],
        "task": task_value(task),
        **({} if run_info is None else {"run_info": dict(run_info)}),
    }
    return json.dumps(value, allow_nan=any_number)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _read_usage(value: Any, cost: Any) -> Usage:
    found = value if isinstance(value, dict) else {}
    return Usage(
        prompt_tokens=int(found.get("prompt_tokens", 0)),
        completion_tokens=int(found.get("completion_tokens", 0)),
        cost=_number(cost),
    )


def _read_fault(value: Any) -> Fault | None:
    if value is None:
        return None
    if value["cause"] not in CAUSES:
        raise ValueError(f"a fault of {value['cause']!r}")
    return Fault(cause=value["cause"], rule=value["rule"], words=value["words"], turn=value["turn"])


def read_verdict(line: Mapping[str, Any]) -> Verdict:
    """The verdict in a line. Raises KeyError, TypeError or ValueError for a line of another format."""
    info = line["reward_info"]
    if info is None:
        return Verdict(reward=None, components=dict(NOTHING), basis=(), reason=line["reason"])
    components = {**NOTHING, **{name: info["reward_breakdown"].get(name) for name in REWARD_TYPES}}
    return Verdict(
        reward=float(info["reward"]), components=components, basis=tuple(info["reward_basis"]), reason=line["reason"]
    )


def read_result(line: Mapping[str, Any]) -> Result:
    """The result in a line. Raises KeyError, TypeError or ValueError for a line of another format."""
    usage = line["usage"]
    return Result(
        key=Key(task_id=str(line["task_id"]), trial=int(line["trial"]), seed=int(line["seed"])),
        termination=str(line["termination_reason"]),
        reason=line["reason"],
        verdict=read_verdict(line),
        agent=_read_usage(usage["agent"], line["agent_cost"]),
        user=_read_usage(usage["user"], line["user_cost"]),
        judge=_read_usage(usage["judge"], usage["judge"]["cost"]),
        reviewer=_read_usage(usage.get("reviewer"), (usage.get("reviewer") or {}).get("cost")),
        fault=_read_fault(line.get("fault")),
        review_failure=(line.get("review_failure") or {}).get("reason"),
        seconds=float(line["duration"]),
        conversation=Conversation.of(line["messages"]),
        excluded=bool(line["excluded"]),
    )


def simulation_of(key: Key, played: Played) -> Simulation:
    """The record that a verdict is a function of."""
    return Simulation(
        id=f"{key.task_id}-{key.trial}",
        task_id=key.task_id,
        termination_reason=played.termination,
        messages=played.messages,
        trial=key.trial,
    )


@cache
def _messages() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(tuple[Message, ...])


def _spent(message: Mapping[str, Any]) -> Usage | None:
    found = message.get("usage")
    if not isinstance(found, Mapping):
        return None
    return Usage(
        prompt_tokens=found["prompt_tokens"], completion_tokens=found["completion_tokens"], cost=message.get("cost")
    )


def read_played(line: Mapping[str, Any]) -> Played:
    """The simulation of a line. Steps and errors are counted again from its messages."""
    told = ({**one, "reasoning": one.get("reasoning_content")} for one in line["messages"])
    messages: tuple[Message, ...] = _messages().validate_python(tuple(told))
    result = read_result(line)
    return Played(
        messages=messages,
        usages=tuple(_spent(message) for message in line["messages"]),
        spent={"assistant": result.agent, "user": result.user},
        termination=line["termination_reason"],
        reason=None,
        steps=sum(message.role != "tool" for message in messages),
        errors=sum(message.error for message in messages),
        seconds=result.seconds,
    )
