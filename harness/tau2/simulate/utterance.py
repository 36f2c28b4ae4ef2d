"""Converts a model's answer to a message of a simulation, or raises why it cannot be one. Pure functions.

The limits bound what a broken model can cost its simulation; a working model does not come near them.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from harness.core.chat import ChatAnswer, ChatCall
from harness.core.tau2.message import Message, Requestor, ToolCall
from harness.core.tau2.upstream import Upstream

DEEPEST = 100
"""Levels of nesting in a call's arguments."""
DEEPEST_OF_ALL = 500
"""The same with upstream's bounds: the depth that Python's JSON module reads and writes without a RecursionError."""
UNBOUNDED = 2**62


class ParticipantError(Exception):
    """An answer with which the simulation cannot go on; it is the fault of the participant who gave it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLimits:
    """Limits of one answer, which upstream does not have. `any_number`: NaN and infinity are allowed."""

    calls: int = 256
    characters: int = 1_000_000
    depth: int = DEEPEST
    any_number: bool = False

    def as_upstream(self, upstream: Upstream) -> AnswerLimits:
        """The limits with upstream's behaviour where it is switched on."""
        made = replace(self, any_number=upstream.numbers)
        return replace(made, calls=UNBOUNDED, characters=UNBOUNDED, depth=DEEPEST_OF_ALL) if upstream.bounds else made


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _check_values(value: Any, limits: AnswerLimits) -> None:
    """Raises ValueError for nesting that is too deep and for infinite numbers (1e999 is parsed as infinity)."""
    level = [value]
    for _ in range(limits.depth):
        if not limits.any_number and any(isinstance(item, float) and not math.isfinite(item) for item in level):
            raise ValueError("a number beyond all bounds")
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return
    raise ValueError(f"nested more than {limits.depth} levels deep")


def parse_arguments(text: str, limits: AnswerLimits | None = None) -> dict[str, Any]:
    """A call's arguments; no text at all means none. Raises ValueError with the reason."""
    limits = limits or AnswerLimits()
    if not text.strip():
        return {}
    try:
        value = json.loads(text, parse_constant=None if limits.any_number else _no_constant)
    except RecursionError:
        raise ValueError(f"nested more than {limits.depth} levels deep") from None
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, found {type(value).__name__}")
    _check_values(value, limits)
    return value


def _call(call: ChatCall, side: Requestor, limits: AnswerLimits, *, cut: bool) -> ToolCall:
    try:
        arguments = parse_arguments(call.arguments, limits)
    except ValueError as error:
        why = "; the answer was cut off at its longest" if cut else ""
        raise ParticipantError(
            f"malformed arguments in the call of {call.name[:80]!r}: {error}{why} ({call.arguments[:120]!r})"
        ) from None
    return ToolCall(id=call.id, name=call.name, arguments=arguments, requestor=side)


def message_of(answer: ChatAnswer, side: Requestor, limits: AnswerLimits, *, aloud: bool = False) -> Message:
    """The answer as this side's message; `aloud`: with the thoughts that were inside its content.

    Raises ParticipantError for one that is empty, malformed or beyond all bounds.
    """
    content = answer.written if aloud and answer.written is not None else answer.content
    size = (
        len(answer.reasoning or "")
        + len(answer.content or "")
        + sum(len(call.arguments) + len(call.name) for call in answer.tool_calls)
    )
    if size > limits.characters:
        raise ParticipantError(f"an answer of {size:,} characters; at most {limits.characters:,} are read")
    if len(answer.tool_calls) > limits.calls:
        raise ParticipantError(f"{len(answer.tool_calls):,} tool calls in one message; at most {limits.calls} are made")
    cut = answer.finish_reason == "length"
    calls = tuple(_call(call, side, limits, cut=cut) for call in answer.tool_calls)
    message = Message(
        role=side,
        content=content,
        tool_calls=calls or None,
        reasoning=answer.reasoning,
        written=None if aloud else answer.written,
    )
    if not calls and not message.text:
        after = f" after a thought of {len(answer.reasoning):,} characters" if answer.reasoning else ""
        raise ParticipantError(f"an empty message{after}{' (the answer was cut off at its longest)' if cut else ''}")
    return message
