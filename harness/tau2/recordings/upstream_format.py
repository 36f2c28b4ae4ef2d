"""Simulations in upstream's results format (tau2-bench v1.0.1), as its loader and its `tau2 view` read them.

Upstream loads a results file as a whole or not at all, so nothing that it would refuse (upstream_models.py) may be written to it.
Values only; no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from harness.core.tau2.end_state import EndState
from harness.core.tau2.fault import Fault
from harness.core.tau2.message import Message
from harness.core.tau2.simulation import Simulation
from harness.core.tau2.task import Action, Task
from harness.reward_models.tau2.components import matches
from harness.reward_models.tau2.reward import Verdict

UNKNOWN_TIME = "1970-01-01T00:00:00"


def reward_info(
    task: Task,
    simulation: Simulation,
    verdict: Verdict,
    *,
    end: EndState | None = None,
    nl_met: Sequence[bool] | None = None,
    nl_reasons: Sequence[str] = (),
    fault: Fault | None = None,
    kinds: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A verdict as upstream records it, with its single checks; the fault is in `info`, which upstream shows.

    `nl_reasons`: the judge's reason for each assertion. `kinds`: tool name -> upstream's kind of it (read, write, ...).
    """
    criteria = task.evaluation_criteria
    value: dict[str, Any] = {
        "reward": verdict.reward,
        "reward_basis": list(verdict.basis) or None,
        "reward_breakdown": {name: gate for name, gate in verdict.gates.items() if gate is not None},
        "info": None if fault is None else {"fault": fault.as_json()},
    }
    components = verdict.components
    if components["DB"] is not None:
        value["db_check"] = {"db_match": components["DB"] == 1.0, "db_reward": components["DB"]}
    if criteria is None:
        return value
    if components["ACTION"] is not None:
        value["action_checks"] = [
            _action_check(action, simulation.messages, kind=(kinds or {}).get(action.name), info=info)
            for action, info in zip(criteria.actions or (), _action_infos(task), strict=True)
        ]
    if components["COMMUNICATE"] is not None:
        said = [m.text.lower().replace(",", "") for m in simulation.messages if m.role == "assistant"]
        value["communicate_checks"] = [
            {"info": wanted, "met": any(wanted.lower() in text for text in said), "justification": ""}
            for wanted in criteria.communicate_info or ()
        ]
    if end is not None and end.assertions_met:
        assertions = zip(criteria.env_assertions or (), end.assertions_met, strict=True)
        value["env_assertions"] = [
            {
                "env_assertion": {
                    "env_type": one.env_type,
                    "func_name": one.func_name,
                    "arguments": one.arguments,
                    "assert_value": one.assert_value,
                },
                "met": met,
                "reward": float(met),
            }
            for one, met in assertions
        ]
    if nl_met is not None and criteria.nl_assertions:
        value["nl_assertions"] = [
            {"nl_assertion": text, "met": met, "justification": reason}
            for text, met, reason in zip(criteria.nl_assertions, nl_met, nl_reasons or [""] * len(nl_met), strict=True)
        ]
    return value


def _action_infos(task: Task) -> list[Any]:
    """The key `info` of each reference action in the task's file, on which nothing depends."""
    criteria = task.evaluation_criteria
    written = ((task.written or {}).get("evaluation_criteria") or {}).get("actions") or ()
    infos = [action.get("info") for action in written]
    n = len((criteria and criteria.actions) or ())
    return infos if len(infos) == n else [None] * n


def _action_check(
    action: Action, messages: Sequence[Message], *, kind: str | None = None, info: Any = None
) -> dict[str, Any]:
    calls = [call for message in messages if message.role in ("assistant", "user") for call in message.tool_calls or ()]
    matched = any(matches(action, call) for call in calls)
    wanted = {
        "action_id": action.action_id,
        "requestor": action.requestor,
        "name": action.name,
        "arguments": action.arguments,
        "compare_args": None if action.compare_args is None else list(action.compare_args),
        "info": info,
    }
    check = {"action": wanted, "action_match": matched, "action_reward": float(matched)}
    return check if kind is None else {**check, "tool_type": kind}


def completed(value: Mapping[str, Any]) -> dict[str, Any]:
    """A simulation's value with the keys that upstream requires (times, duration, mode); an unknown reward is left out."""
    made = dict(value)
    times = [m["timestamp"] for m in _dicts(made.get("messages")) if isinstance(m.get("timestamp"), str)]
    made.setdefault("start_time", times[0] if times else made.get("timestamp", UNKNOWN_TIME))
    made.setdefault("end_time", times[-1] if times else _later(made["start_time"], made.get("duration")))
    made.setdefault("timestamp", made["end_time"])
    made.setdefault("duration", 0.0)
    made.setdefault("mode", "half_duplex")
    info = made.get("reward_info")
    if isinstance(info, dict) and info.get("reward") is None:
        made["reward_info"] = None
    return made


def _later(start: Any, seconds: Any) -> Any:
    """A time so many seconds later; `start` where either is not known."""
    try:
        return (datetime.fromisoformat(start) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
    except (TypeError, ValueError, OverflowError):
        return start


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def info_value(
    domain: str, *, solo: bool, trials: int, policy: str = "", llm: str | None = None, commit: str = "unknown"
) -> dict[str, Any]:
    """Upstream's `info`, for simulations that come without one. Limits are upstream's defaults."""
    return {
        "git_commit": commit,
        "num_trials": trials,
        "max_steps": 200,
        "max_errors": 10,
        "user_info": {"implementation": "dummy_user" if solo else "user_simulator"},
        "agent_info": {"implementation": "llm_agent_solo" if solo else "llm_agent", "llm": llm},
        "environment_info": {"domain_name": domain, "policy": policy},
    }
