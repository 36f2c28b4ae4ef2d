"""Loops in a transcript: one side repeats a message, or a call with the same answer. Pure; knows no task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.core.tau2.message import Message, Requestor

SAME_MESSAGE = 3
"""So many equal messages of one side in a row, with no call of that side between them, are a loop."""
MIN_WORDS = 4
"""Shorter messages are acknowledgements: three times "yes, please" is a conversation."""
SAME_CALL = 4
"""So many equal calls of one side in a row, all answered alike, are a loop."""


class Loop(NamedTuple):
    """Where a loop was complete, and what was repeated: `message` or `call of NAME`."""

    turn: int
    what: str


def find_loop(messages: Sequence[Message], side: Requestor) -> Loop | None:
    """The first loop of a side, if any."""
    found = [loop for loop in (_same_message(messages, side), _same_call(messages, side)) if loop is not None]
    return min(found, default=None)


def _same_message(messages: Sequence[Message], side: Requestor) -> Loop | None:
    last, n = "", 0
    for turn, message in enumerate(messages):
        if message.role != side:
            continue
        words = message.text.casefold().split()
        if message.tool_calls or len(words) < MIN_WORDS:
            last, n = "", 0
            continue
        said = " ".join(words)
        last, n = said, n + 1 if said == last else 1
        if n == SAME_MESSAGE:
            return Loop(turn, "message")
    return None


def _same_call(messages: Sequence[Message], side: Requestor) -> Loop | None:
    """Equal calls with equal answers; a message of the other side in between does not end a row, another call does."""
    answers = {(message.id, turn): message.content for turn, message in enumerate(messages) if message.role == "tool"}
    last: tuple[object, ...] = ()
    n = 0
    for turn, message in enumerate(messages):
        if message.role != side:
            continue
        for offset, call in enumerate(message.tool_calls or (), start=1):
            made = (call.name, call.arguments, answers.get((call.id, turn + offset)))
            last, n = made, n + 1 if made == last else 1
            if n == SAME_CALL:
                return Loop(turn, f"call of {call.name}")
    return None
