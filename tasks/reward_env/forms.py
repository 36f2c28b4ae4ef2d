"""The forms in which training data are written, each read as its trainers read it: a conversation, or a pair of texts.

A reading is what the data's authors train on: all answers of a conversation, the chosen answer of preference data after
its whole prompt, the wanted answers of KTO. What they leave out is left out here and counted. Knows no template.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from harness.core.errors import DataError
from harness.core.pair import Pair
from harness.tasks.reward_env.conversation import Conversation
from harness.tasks.reward_env.marks import check_record, trained, wanted
from harness.tasks.reward_env.message import ANSWER_PARTS, read_message, text_of
from harness.tasks.reward_env.records import Located, parse_json

KEYS: dict[str, tuple[str, ...]] = {
    "pairs": ("q", "r"),
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "query": ("query", "response"),
    "completion": ("prompt", "completion"),
    "preference": ("chosen", "rejected"),
}
TOOLS = ("tools", "functions", "available_tools")
"""Where the tools on offer stand: everywhere, OpenAI's older form, Toucan."""
_PREFERENCE = (("preferred_output", "non_preferred_output"), ("chosen_messages", "rejected_messages"))
"""Other names of `chosen` and `rejected`: OpenAI's, LLaMA-Factory's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a record gives: an item, or none where nothing of it is trained; and what was left out."""

    item: Conversation | Pair | None
    n_undesired: int = 0
    n_rejected: int = 0
    n_masked: int = 0


def recognise(record: Located) -> str:
    """The form of a record, by its keys. Raises DataError."""
    value = renamed(record).value
    for present in (lambda key: value.get(key) is not None, lambda key: key in value):
        for form, keys in KEYS.items():
            if all(map(present, keys)):
                return form
    known = "; ".join(f"{form}: {expected(form)}" for form in KEYS)
    raise DataError(f"{record.where}: keys {sorted(record.value)} are of no known form ({known})")


def expected(form: str) -> str:
    """The keys of a form, for a message."""
    return " and ".join(repr(key) for key in KEYS[form])


def renamed(record: Located) -> Located:
    """A preference record of OpenAI's or LLaMA-Factory's with the keys that the others have."""
    value = record.value
    for chosen, rejected in _PREFERENCE:
        if value.get(chosen) is not None and value.get(rejected) is not None:
            value = {**value, "chosen": value[chosen], "rejected": value[rejected]}
    given = value.get("input")
    if isinstance(given, dict) and "messages" in given and "chosen" in value:
        value = {**value, **{key: item for key, item in given.items() if key in ("messages", *TOOLS)}}
    return Located(record.where, value)


def read_record(record: Located, index: int, form: str) -> Reading:
    """A record of a form, `index` from 0. Raises DataError naming the record and the key."""
    record = renamed(record)
    ranked = form in ("alpaca", "query") and _is_preference(record)
    keys = KEYS["preference"] if ranked else KEYS[form]
    missing = [key for key in keys if key not in record.value]
    if missing:
        raise DataError(
            f"{record.where}: key {missing[0]!r} is missing; every record of a {form} file has {expected(form)}"
        )
    check_record(record)
    if form != "pairs" and _is_preference(record):
        return replace(_preference(record, index), n_rejected=1)
    item = _READERS[form](record, index)
    if wanted(record) is False:
        return Reading(item=None, n_undesired=1)
    return item


def _is_preference(record: Located) -> bool:
    return all(record.value.get(key) is not None for key in KEYS["preference"])


def _pairs(record: Located, index: int) -> Reading:
    return _pair(record, index, "q", "r")


def _pair(record: Located, index: int, question: str, answer: str) -> Reading:
    q, r = record.value[question], record.value[answer]
    if not isinstance(q, str) or not isinstance(r, str):
        raise DataError(
            f"{record.where}: {question} and {answer} must be text, found {type(q).__name__} and {type(r).__name__}"
        )
    if not r:
        raise DataError(f"{record.where}: {answer} is empty, so there is nothing to score; remove the pair")
    identity, cluster = record.value.get("id"), record.value.get("cluster")
    pair = Pair(
        id=str(index if identity is None else identity), q=q, r=r, cluster=None if cluster is None else str(cluster)
    )
    return Reading(item=pair)


def _messages(record: Located, index: int) -> Reading:
    """OpenAI: {"messages": [{"role", "content", "tool_calls"?}], "tools"?}; also as JSON text (Toucan)."""
    turns = _turns(record, "messages")
    if record.value.get("rejected_messages") is not None:  # ms-swift
        rejected = _list(record.value["rejected_messages"], record, "rejected_messages")
        return replace(_conversation(record, index, turns, first=_shared(turns, rejected)), n_rejected=1)
    if record.value.get("rejected_response") is not None:  # ms-swift: the last answer is the chosen one
        return replace(_conversation(record, index, turns, last=True), n_rejected=1)
    return _conversation(record, index, turns, last=wanted(record) is not None)


def _sharegpt(record: Located, index: int) -> Reading:
    """ShareGPT: {"conversations": [{"from", "value"} or {"role", "content"}, ...], "system"?, "tools"?}."""
    return _conversation(record, index, _turns(record, "conversations"), last=wanted(record) is not None)


def _alpaca(record: Located, index: int) -> Reading:
    """Alpaca: {"instruction", "input"?, "output", "system"?, "history"?: [[question, answer], ...]}."""
    answer = _answer(record.value.get("output"), record, "output")
    turns = [*_instruction(record, ("instruction", "input")), {"role": "assistant", "content": answer}]
    return _conversation(record, index, turns, last=wanted(record) is not None)


def _query(record: Located, index: int) -> Reading:
    """ms-swift: {"query", "response", "system"?, "history"?}."""
    answer = _answer(record.value.get("response"), record, "response")
    turns = [*_instruction(record, ("query",)), {"role": "assistant", "content": answer}]
    if record.value.get("rejected_response") is not None:
        return replace(_conversation(record, index, turns, last=True), n_rejected=1)
    return _conversation(record, index, turns, last=wanted(record) is not None)


def _completion(record: Located, index: int) -> Reading:
    """TRL: {"prompt", "completion"}, both text (a plain pair) or both messages."""
    prompt, completion = (_unpacked(record.value[key], record, key) for key in ("prompt", "completion"))
    if isinstance(prompt, str) and isinstance(completion, str):
        return _pair(record, index, "prompt", "completion")
    if not isinstance(prompt, list) or not isinstance(completion, list | dict):
        raise DataError(f"{record.where}: 'prompt' and 'completion' must both be text or both be lists of messages")
    return _after(record, index, _list(prompt, record, "prompt"), _list(completion, record, "completion"))


def _preference(record: Located, index: int) -> Reading:
    """Preference data (DPO): the chosen answer after the whole prompt; what came before is context, `rejected` no answer."""
    value = record.value
    chosen, rejected = (_unpacked(value[key], record, key) for key in ("chosen", "rejected"))
    source = next(
        (key for key in ("messages", "conversations", "prompt", "instruction") if value.get(key) is not None), None
    )
    prompt = _unpacked(value[source], record, source) if source else None
    opens = chosen[0] if isinstance(chosen, list) and chosen and isinstance(chosen[0], dict) else None
    whole = opens is not None and not _is_answer(opens, record)
    if whole and (not isinstance(prompt, list) or chosen[: len(prompt)] == prompt):
        if not isinstance(rejected, list):
            raise DataError(
                f"{record.where}: 'chosen' is a whole conversation and 'rejected' is not; give both in full"
            )
        turns = _list(chosen, record, "chosen")
        return _conversation(record, index, turns, first=_shared(turns, _list(rejected, record, "rejected")))
    if source == "prompt" and isinstance(prompt, str) and isinstance(chosen, str):
        return _pair(record, index, "prompt", "chosen")
    if source == "instruction":
        turns = _instruction(record, ("instruction", "input"))
    elif isinstance(prompt, list) and source:
        turns = _list(prompt, record, source)
    else:
        raise DataError(
            f"{record.where}: preference data need their prompt: 'messages', 'conversations', 'instruction', or a 'prompt' "
            "of the same kind as 'chosen' (text, or messages)"
        )
    answer = [{"role": "assistant", "content": chosen}] if isinstance(chosen, str) else _list(chosen, record, "chosen")
    return _after(record, index, turns, answer)


def _after(record: Located, index: int, prompt: list[dict[str, Any]], answer: list[dict[str, Any]]) -> Reading:
    if prompt and answer and _is_answer(prompt[-1], record) and _is_answer(answer[0], record):
        raise DataError(
            f"{record.where}: the prompt ends with an assistant turn; it belongs to the answer or ends before it"
        )
    return _conversation(record, index, [*prompt, *answer], first=len(prompt))


def _conversation(
    record: Located, index: int, turns: list[dict[str, Any]], *, first: int = 0, last: bool = False
) -> Reading:
    """The answers from turn `first` on, or the last one alone, without those that the data mask."""
    messages = [read_message(turn, record.where) for turn in turns]
    marks = [
        trained(turn, record.where, answer=message["role"] == "assistant")
        for turn, message in zip(turns, messages, strict=True)
    ]
    _check_labels(record, turns, messages)
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
    every = [position for position, message in enumerate(messages) if message["role"] == "assistant"]
    answers = [position for position in every if position >= first]
    if last and answers:
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
        if not message["content"] and not any(message.get(key) for key in ("tool_calls", *ANSWER_PARTS)):
            raise DataError(f"{record.where}: an assistant turn is empty (no content, no tool_calls); remove it")
    identity = record.value.get("id")
    conversation = Conversation(
        id=str(index if identity is None else identity),
        where=record.where,
        messages=tuple(messages),
        tools=_tools(record),
        answers=None if kept == every else tuple(kept),
    )
    return Reading(item=conversation if kept else None, n_masked=len(answers) - len(kept))


def _turns(record: Located, key: str) -> list[dict[str, Any]]:
    value = record.value[key]
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        value = parse_json(value, f"{record.where}: {key!r}")
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise DataError(f"{record.where}: {key!r} must be a list of objects")
    return value


def _list(value: Any, record: Located, key: str) -> list[dict[str, Any]]:
    turns = [value] if isinstance(value, dict) else value
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        raise DataError(f"{record.where}: {key!r} must be a message or a list of messages")
    return turns


def _unpacked(value: Any, record: Located, key: str) -> Any:
    """Messages that stand in a cell as JSON text, as messages; any other text as it is."""
    if not isinstance(value, str):
        return value
    if re.match(r"\s*\[?\s*\{'(role|content|from|value)':", value):
        raise DataError(
            f"{record.where}: {key!r} holds messages as Python prints them; save the file as JSON lines or Parquet"
        )
    if re.match(r'\s*\[?\s*\{\s*"(role|content|from|value)"\s*:', value):
        return parse_json(value, f"{record.where}: {key!r}")
    return value


def _is_answer(turn: dict[str, Any], record: Located) -> bool:
    return bool(read_message(turn, record.where)["role"] == "assistant")


def _shared(chosen: list[dict[str, Any]], rejected: list[dict[str, Any]]) -> int:
    """How many turns two conversations begin with in common: the prompt that TRL takes out of them."""
    differs = (n for n, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other)
    shared = next(differs, min(len(chosen), len(rejected)))
    return min(shared, len(chosen) - 1)


def _answer(value: Any, record: Located, key: str) -> str:
    if isinstance(value, list) and any(isinstance(part, str) for part in value):
        raise DataError(
            f"{record.where}: {key!r} is a list of answers; give the wanted one as 'chosen' and the other as 'rejected'"
        )
    return text_of(value, record.where)


def _instruction(record: Located, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    value = record.value
    turns: list[dict[str, Any]] = []
    history = value.get("history") or []
    if isinstance(history, str):
        history = parse_json(history, f"{record.where}: 'history'")
    for exchange in history if isinstance(history, list | tuple) else [None]:
        if not isinstance(exchange, list | tuple) or len(exchange) != 2:
            raise DataError(f"{record.where}: 'history' must be a list of [question, answer]")
        turns += [{"role": "user", "content": exchange[0]}, {"role": "assistant", "content": exchange[1]}]
    question = "\n".join(text_of(value[key], record.where) for key in keys if value.get(key))
    return [*turns, {"role": "user", "content": question}]


def _check_labels(record: Located, turns: list[dict[str, Any]], messages: list[dict[str, Any]]) -> None:
    """A turn that is marked as unwanted by itself is refused: who trains on it, and how, is not known."""
    for turn, message in zip(turns, messages, strict=True):
        if message["role"] == "assistant" and wanted(Located(record.where, turn)) is False:
            raise DataError(f"{record.where}: a turn is marked as not wanted; write 'weight': 0 to have it as context")


def _tools(record: Located) -> tuple[dict[str, Any], ...]:
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
    if key == "functions":
        tools = [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools]
    return tuple(tools)


_READERS: dict[str, Callable[[Located, int], Reading]] = {
    "pairs": _pairs,
    "messages": _messages,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "query": _query,
    "completion": _completion,
    "preference": _preference,
}
