"""From one record to a conversation with the answers that are scored, and the number of those left out. Knows no form."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from harness.core.errors import DataError
from harness.core.pair import Pair
from harness.tasks.reward_env.conversation import Conversation
from harness.tasks.reward_env.joined import join, results_apart
from harness.tasks.reward_env.marks import snake, trained, wanted
from harness.tasks.reward_env.message import answer_parts, is_call_turn, read_message, text_of
from harness.tasks.reward_env.records import Located, parse_json

_SYSTEM = re.compile(
    r"sys|(sys|system|developer)_(prompt|message|instructions?|text|content)|system|developer|preamble"
)
TOOLS = ("tools", "functions", "available_tools")
"""Keys of a record's tools: the usual one, OpenAI's older one, Toucan's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A record as an item, None where nothing of it is trained; and how many answers were left out, by cause."""

    item: Conversation | Pair | None
    n_undesired: int = 0
    n_rejected: int = 0
    n_masked: int = 0


def conversation(
    record: Located, index: int, turns: list[dict[str, Any]], *, first: int = 0, last: bool = False
) -> Reading:
    """The answers from turn `first` on, or the last one alone, without those that the data mask. Raises DataError."""
    turns, first = results_apart(turns, first)
    messages = [read_message(turn, record.where) for turn in turns]
    marks = [
        trained(turn, record.where, answer=message["role"] == "assistant")
        for turn, message in zip(turns, messages, strict=True)
    ]
    _check_labels(record, turns, messages)
    messages, marks, places = join(record.where, turns, messages, marks)
    first = places[first] if first < len(places) else len(messages)
    system = record.value.get("system")
    if isinstance(system, list):
        system = text_of(system, record.where)
    if system:
        own = messages[0]["content"] if messages and messages[0]["role"] == "system" else None
        if own is not None and own != system:
            raise DataError(f"{record.where}: 'system' and the first turn are two system prompts; remove one of them")
        if own is None:
            messages = [read_message({"role": "system", "content": system}, record.where), *messages]
            marks, first = [None, *marks], first + 1
    prompted = other_system(record)
    if prompted and not _holds(messages[:1], record.value[prompted]):
        raise DataError(
            f"{record.where}: {prompted!r} is not the first turn, and whether it is trained with is not clear; "
            "rename it 'system', or remove the key"
        )
    every = [position for position, message in enumerate(messages) if message["role"] == "assistant"]
    answers = [position for position in every if position >= first]
    if last and answers:
        if any(marks[position] for position in answers[:-1]):
            raise DataError(
                f"{record.where}: a turn before the last answer is marked as trained, and of judged data the last answer is "
                "scored; remove the mark"
            )
        if answers[-1] != len(messages) - 1:
            raise DataError(
                f"{record.where}: the last turn is no answer, so which one is judged is not clear; remove what follows"
            )
        answers = answers[-1:]
    if not answers:
        raise DataError(f"{record.where}: no assistant turn, so nothing to score; remove the conversation")
    kept = [position for position in answers if marks[position] is not False]
    for position in kept:
        message = messages[position]
        if not message["content"] and not message.get("tool_calls") and not answer_parts(message):
            raise DataError(f"{record.where}: an assistant turn is empty (no content, no tool_calls); remove it")
    identity = record.value.get("id")
    conversation = Conversation(
        id=str(index if identity is None else identity),
        where=record.where,
        messages=tuple(messages),
        tools=_tools(record, bare=any(map(is_call_turn, turns))),
        answers=None if kept == every else tuple(kept),
    )
    return Reading(item=conversation if kept else None, n_masked=len(answers) - len(kept))


def _holds(opening: list[dict[str, Any]], prompt: Any) -> bool:
    """Whether the first message is a text, or a system prompt that has it in it (Multilingual-Thinking's `developer`)."""
    return any(
        prompt == first["content"]
        or (isinstance(prompt, str) and first["role"] in ("system", "developer") and prompt in first["content"])
        for first in opening
    )


def other_system(record: Located) -> str | None:
    """The key of a system prompt under a name that no trainer reads as one."""
    keys = (
        key for key, value in record.value.items() if key != "system" and value and isinstance(value, str | list | dict)
    )
    return next((key for key in keys if _SYSTEM.fullmatch(snake(key))), None)


def _check_labels(record: Located, turns: list[dict[str, Any]], messages: list[dict[str, Any]]) -> None:
    """Refuse a single turn that is marked as not wanted: how trainers use such a mark is not known. Raises DataError."""
    for turn, message in zip(turns, messages, strict=True):
        if message["role"] == "assistant" and wanted(Located(record.where, turn)) is False:
            raise DataError(f"{record.where}: a turn is marked as not wanted; write 'weight': 0 to have it as context")


def _tools(record: Located, *, bare: bool) -> tuple[dict[str, Any], ...]:
    """The tools on offer. `bare`: LLaMA-Factory and ms-swift show a function without its shell in one, and this record is
    theirs; elsewhere it goes to the template as it stands."""
    key = next((key for key in TOOLS if record.value.get(key)), None)
    if key is None:
        return ()
    where = f"{record.where}: {key!r}"
    tools = record.value[key]
    if isinstance(tools, str):
        tools = parse_json(tools, where)
    if isinstance(tools, list):
        tools = [parse_json(tool, where) if isinstance(tool, str) else tool for tool in tools]
    if not isinstance(tools, list | tuple) or not all(isinstance(tool, dict) for tool in tools):
        raise DataError(f"{where} must be a list of tool schemas")
    text_beside_turns = key == "tools" and isinstance(record.value[key], str) and "messages" not in record.value
    if key == "functions" or bare or text_beside_turns:
        tools = [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools]
    return tuple(tools)
