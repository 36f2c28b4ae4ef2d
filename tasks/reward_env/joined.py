"""An answer that stands in several turns, its text and then a turn for each call (ms-swift), as one message. Knows no record."""

from __future__ import annotations

from typing import Any, NamedTuple

from harness.core.errors import DataError
from harness.tasks.reward_env.message import answer_parts, is_call_turn


class Joined(NamedTuple):
    """Messages, what each says of being trained, and for each turn the position of its message."""

    messages: list[dict[str, Any]]
    marks: list[bool | None]
    places: list[int]


def join(where: str, turns: list[dict[str, Any]], messages: list[dict[str, Any]], marks: list[bool | None]) -> Joined:
    """Turns as messages, with the calls of one answer in one. Raises DataError."""
    runs: list[list[int]] = []
    calls = [is_call_turn(turn) for turn in turns]
    for position, message in enumerate(messages):
        goes_on = position > 0 and message["role"] == "assistant" == messages[position - 1]["role"]
        if goes_on and (calls[position] or calls[position - 1]):
            runs[-1].append(position)
        else:
            runs.append([position])
    joined = [_message(where, [messages[n] for n in run], [calls[n] for n in run]) for run in runs]
    found = [_mark(where, [marks[n] for n in run], [calls[n] for n in run]) for run in runs]
    return Joined(joined, found, [place for place, run in enumerate(runs) for _ in run])


def _message(where: str, messages: list[dict[str, Any]], calls: list[bool]) -> dict[str, Any]:
    first, *rest = messages
    for message, is_call in zip(rest, calls[1:], strict=True):
        if not is_call or message["content"] or answer_parts(message) or (first.get("tool_calls") and not calls[0]):
            raise DataError(
                f"{where}: an answer goes on after a tool call and before its result, where no template prints it; "
                "reorder the turns"
            )
    every = [call for message in messages for call in message.get("tool_calls", ())]
    return {**first, "tool_calls": every} if rest else first


def _mark(where: str, marks: list[bool | None], calls: list[bool]) -> bool | None:
    """What an answer says of being trained. Of several calls, ms-swift asks the first one that has a mark."""
    of_calls = next((mark for mark, is_call in zip(marks, calls, strict=True) if is_call and mark is not None), None)
    if calls[0] or len(calls) == 1:
        return of_calls if calls[0] else marks[0]
    if (marks[0] is False) is not (of_calls is False):
        raise DataError(
            f"{where}: of an answer's text and its calls one is masked, and a turn is scored as a whole; mark both"
        )
    return marks[0] if of_calls is None else of_calls
