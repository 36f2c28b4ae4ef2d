"""A finished conversation read back from a line of ours, so that it can be judged without being held again."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from harness.core.chat import Usage
from harness.core.tau2.message import Message
from harness.tau2.line import read_outcome
from harness.tau2.simulate.loop import Played


@cache
def _messages() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(tuple[Message, ...])


def _usage(message: Mapping[str, Any]) -> Usage | None:
    found = message.get("usage")
    if not isinstance(found, Mapping):
        return None
    return Usage(
        prompt_tokens=found["prompt_tokens"], completion_tokens=found["completion_tokens"], cost=message.get("cost")
    )


def read_played(line: Mapping[str, Any]) -> Played:
    """The simulation of a line. Steps and errors are counted again from its messages."""
    messages: tuple[Message, ...] = _messages().validate_python(tuple(line["messages"]))
    outcome = read_outcome(line)
    return Played(
        messages=messages,
        usages=tuple(_usage(message) for message in line["messages"]),
        spent={"assistant": outcome.agent, "user": outcome.user},
        termination=line["termination_reason"],
        reason=None,
        steps=sum(message.role != "tool" for message in messages),
        errors=sum(message.error for message in messages),
        seconds=outcome.seconds,
    )
