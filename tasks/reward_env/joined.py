"""Turns of a file that are not messages one by one: an answer in several, its text and then a turn for each call (ms-swift),
and results of tools in a turn of the user's (Anthropic). Knows no record.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from harness.core.errors import DataError
from harness.tasks.reward_env.message import answer_parts, is_call_turn


class Joined(NamedTuple):
    """Messages, what each says of being trained, and for each turn the position of its message."""

    messages: list[dict[str, Any]]
    marks: list[bool | None]
    places: list[int]


def results_apart(turns: list[dict[str, Any]], first: int) -> tuple[list[dict[str, Any]], int]:
    """Turns in which every result of a tool is one of its own, and where the one is that was at `first`."""
    found: list[dict[str, Any]] = []
    at = None
    for position, turn in enumerate(turns):
        if position == first:
            at = len(found)
        parts = turn.get("content")
        if turn.get("role") != "user" or not isinstance(parts, list) or not any(map(_is_result, parts)):
            found.append(turn)
            continue
        found += [
            {"role": "tool", "content": part.get("content"), "tool_call_id": part.get("tool_use_id")}
            for part in parts
            if _is_result(part)
        ]
        said = [part for part in parts if not _is_result(part)]
        found += [{**turn, "content": said}] if said else []
    return found, len(found) if at is None else at


def _is_result(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "tool_result"


def join(where: str, turns: list[dict[str, Any]], messages: list[dict[str, Any]], marks: list[bool | None]) -> Joined:
    """Turns as messages, with the calls of one answer in one. Raises DataError."""
    runs: list[list[int]] = []
    calls = [is_call_turn(turn) for turn in turns]
    swift = any(turn.get("role") in ("tool_call", "tool_response") for turn in turns)  # there, all of an answer is one
    for position, message in enumerate(messages):
        goes_on = position > 0 and message["role"] == "assistant" == messages[position - 1]["role"]
        if goes_on and (swift or calls[position] or calls[position - 1]):
            runs[-1].append(position)
        else:
            runs.append([position])
    joined = [_message(where, [messages[n] for n in run], [calls[n] for n in run]) for run in runs]
    found = [_mark(where, [marks[n] for n in run], [calls[n] for n in run]) for run in runs]
    return Joined(joined, found, [place for place, run in enumerate(runs) for _ in run])


def _message(where: str, messages: list[dict[str, Any]], calls: list[bool]) -> dict[str, Any]:
    if len(messages) == 1:
        return messages[0]
    n_texts = calls.index(True) if True in calls else len(calls)
    texts, after = messages[:n_texts], messages[n_texts:]
    later = [message for message in (*texts[1:], *after[1 if not texts else 0 :]) if answer_parts(message)]
    spoken = [message for message in after[0 if texts else 1 :] if message["content"]]
    if later or spoken or not all(calls[n_texts:]) or any(message.get("tool_calls") for message in texts):
        raise DataError(
            f"{where}: an answer goes on after a tool call and before its result, where no template prints it; "
            "reorder the turns"
        )
    every = [call for message in after for call in message.get("tool_calls", ())]
    content = "".join(message["content"] for message in texts or after[:1])
    return {**messages[0], "content": content, **({"tool_calls": every} if every else {})}


def _mark(where: str, marks: list[bool | None], calls: list[bool]) -> bool | None:
    """What an answer says of being trained. Of several calls, ms-swift asks the first one that has a mark."""
    parts = [mark for mark, is_call in zip(marks, calls, strict=True) if not is_call]
    if any(calls):
        of_calls = (mark for mark, is_call in zip(marks, calls, strict=True) if is_call and mark is not None)
        parts.append(next(of_calls, None))
    if len({mark is False for mark in parts}) > 1:
        raise DataError(f"{where}: a part of an answer is masked, and a turn is scored as a whole; mark all of it")
    return next((mark for mark in parts if mark is not None), None)
