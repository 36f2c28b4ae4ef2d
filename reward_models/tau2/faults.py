"""The cause of a failed simulation, by rules over task, transcript and verdict. Pure; docs/tau2.md lists the rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from harness.core.tau2.fault import CAUSES, Cause, Fault
from harness.core.tau2.simulation import STOPPED, Simulation
from harness.core.tau2.task import Task
from harness.reward_models.tau2.loops import find_loop
from harness.reward_models.tau2.reward import NEEDS_JUDGE, SUCCESS, Verdict
from harness.reward_models.tau2.user_faults import user_fault

BY_TERMINATION: Mapping[str, Fault] = {
    "infrastructure_error": Fault(
        cause="infrastructure", rule="endpoint", words="the endpoint failed, or something around it"
    ),
    "unexpected_error": Fault(cause="infrastructure", rule="unexpected_error", words="the runner failed"),
    "user_error": Fault(cause="user", rule="unusable_answer", words="the user simulator's answer could not be used"),
    "agent_error": Fault(
        cause="agent", rule="malformed", words="the agent's answer could not be used: a malformed call, or nothing"
    ),
    "context_window_exceeded": Fault(cause="agent", rule="context", words="the agent ran out of context"),
    "timeout": Fault(cause="agent", rule="timeout", words="the simulation ran out of time"),
}
"""Ends that are a cause by themselves."""


class RecordedFailure(NamedTuple):
    """A failure as it was recorded when the simulation was run or judged. It takes precedence over every rule."""

    cause: Cause
    words: str


def attribute(
    task: Task,
    simulation: Simulation,
    verdict: Verdict,
    *,
    changing: Collection[str] = (),
    failure: RecordedFailure | None = None,
) -> Fault | None:
    """The cause of a simulation that failed; None for one that succeeded or that still waits for a judge.

    In this order: what was recorded; ends that the endpoint, the runner or the simulated user caused; a transcript that
    cannot be judged; the user's first fault (user_faults.py); else the agent, by how it failed.
    `changing` names the user's tools that change state.
    """
    if failure is not None:
        return Fault(cause=failure.cause, rule="recorded", words=failure.words)
    if verdict.reward is not None and verdict.reward >= SUCCESS:
        return None
    last = len(simulation.messages) - 1 if simulation.messages else None
    end = BY_TERMINATION.get(simulation.termination_reason)
    if end is not None and end.cause != "agent":
        return _at(end, last)
    if verdict.reward is None:
        if verdict.reason == NEEDS_JUDGE:
            return None
        return unjudgeable(verdict.reason or "no reason given")
    by_user = user_fault(task, simulation.messages, changing=changing)
    if by_user is not None:
        return by_user
    return _at(end, last) if end is not None else _agent(simulation, verdict, last)


def unjudgeable(reason: str) -> Fault:
    """A recording of which no verdict can be made."""
    return Fault(cause="infrastructure", rule="unjudgeable", words=f"it cannot be judged: {reason}")


def _at(fault: Fault, turn: int | None) -> Fault:
    return Fault(cause=fault.cause, rule=fault.rule, words=fault.words, turn=turn)


def _agent(simulation: Simulation, verdict: Verdict, last: int | None) -> Fault:
    messages = simulation.messages
    if simulation.termination_reason == "too_many_errors":
        errors = [(turn, message) for turn, message in enumerate(messages) if message.role == "tool" and message.error]
        mine = sum(message.requestor == "assistant" for _, message in errors)
        if 2 * mine < len(errors):
            words = f"{len(errors) - mine} of {len(errors)} tool errors are the user's"
            return Fault(cause="user", rule="tool_errors", words=words, turn=errors[-1][0])
        words = f"too many tool errors, {mine} of {len(errors)} the agent's"
        return Fault(cause="agent", rule="tool_errors", words=words, turn=errors[-1][0] if errors else last)
    loop = find_loop(messages, "assistant")
    if loop is not None:
        return Fault(cause="agent", rule="loop", words=f"the agent repeated the same {loop.what}", turn=loop.turn)
    if simulation.termination_reason == "max_steps":
        return Fault(cause="agent", rule="max_steps", words="the agent was not done when the steps ran out", turn=last)
    missed = [name for name, value in verdict.gates.items() if value is not None and value < SUCCESS]
    if missed:
        return Fault(cause="agent", rule="wrong_end_state", words=f"failed {', '.join(missed)}")
    if verdict.reason and simulation.termination_reason in STOPPED:
        return Fault(cause="agent", rule="unfit_end_state", words=verdict.reason)
    return Fault(cause="agent", rule="other", words=f"ended by {simulation.termination_reason}", turn=last)


def count(faults: Iterable[Fault | None]) -> dict[Cause, int]:
    """How many faults of each cause; every cause has its key."""
    found = Counter(fault.cause for fault in faults if fault is not None)
    return {cause: found[cause] for cause in CAUSES}
