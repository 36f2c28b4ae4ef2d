"""The five components, each a function of task, transcript and end state: 1.0, 0.0, or None where a task has nothing for it.

Upstream's semantics, tau2-bench v1.0.1, kept exactly (docs/tau2.md names what surprises). No I/O, no model, no tools.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.core.tau2.end_state import EndState
from harness.core.tau2.message import Message, ToolCall
from harness.core.tau2.task import Action, Criteria


def _passed(results: Iterable[bool]) -> float:
    return 1.0 if all(results) else 0.0


def communicate(criteria: Criteria, messages: Sequence[Message]) -> float | None:
    """Whether each required string stands in some single message of the agent.

    The message is lower-cased and loses its commas, the string is lower-cased and keeps them: `1,000` is never found.
    Text beside tool calls counts. A string split over two messages does not.
    """
    if not criteria.communicate_info:
        return None
    said = [message.text.lower().replace(",", "") for message in messages if message.role == "assistant"]
    said = [text for text in said if text]
    return _passed(any(wanted.lower() in text for text in said) for wanted in criteria.communicate_info)


def matches(action: Action, call: ToolCall) -> bool:
    """Whether a call counts as the reference action. Requestor and order play no part.

    With `compare_args` None only the keys of the *call* are compared, so a call without arguments matches on its name.
    """
    if action.name != call.name:
        return False
    compared = call.arguments.keys() if action.compare_args is None else action.compare_args
    made = {key: value for key, value in call.arguments.items() if key in compared}
    wanted = {key: value for key, value in action.arguments.items() if key in compared}
    return made == wanted


def action(criteria: Criteria, messages: Sequence[Message]) -> float | None:
    """Whether every reference action appears among the calls of agent and user."""
    if not criteria.actions:
        return None
    calls = [call for message in messages if message.role in ("assistant", "user") for call in message.tool_calls or ()]
    return _passed(any(matches(wanted, call) for call in calls) for wanted in criteria.actions)


def env_assertion(end: EndState) -> float | None:
    """Whether all assertions on the environment held at the end."""
    return None if not end.assertions_met else _passed(end.assertions_met)


def database(end: EndState) -> float | None:
    """Whether the databases ended as the reference actions leave them."""
    return None if end.database_matches is None else _passed([end.database_matches])


def nl_assertion(criteria: Criteria, met: Sequence[bool] | None) -> float | None:
    """Whether a judge found every natural-language assertion met; `met` is None without a judge. Raises ValueError for a
    number of verdicts that is not that of the assertions."""
    if not criteria.nl_assertions or met is None:
        return None
    if len(met) != len(criteria.nl_assertions):
        raise ValueError(f"{len(met)} verdicts for {len(criteria.nl_assertions)} assertions")
    return _passed(met)
