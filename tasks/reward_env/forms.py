"""The forms in which training data are written, each read as its trainers read it: a conversation, or a pair of texts.

A reading has the answers that are trained: all of a conversation, the chosen one of preference data after its whole prompt,
the desirable ones of KTO. The others are left out and counted. Knows no template.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from harness.core.errors import DataError
from harness.core.pair import Pair
from harness.tasks.reward_env.marks import check_record, snake, wanted
from harness.tasks.reward_env.message import read_message, text_of
from harness.tasks.reward_env.reading import TOOLS, Reading, conversation, other_system
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
_PREFERENCE = (("preferred_output", "non_preferred_output"), ("chosen_messages", "rejected_messages"))
"""Other names of `chosen` and `rejected`: OpenAI's, LLaMA-Factory's."""
_REJECTED = ("rejected_response", "rejected_messages")
"""The answer that ms-swift compares with the last one of a conversation."""
_OTHER_REJECTED = re.compile(
    r"(rejected|dispreferred|non_preferred|negative)_(outputs?|answers?|completions?|messages?|texts?|responses?|conversations?)"
)


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
    """A preference record of OpenAI's or LLaMA-Factory's with the common keys `chosen` and `rejected`."""
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
    _check_alone(record)
    if form != "pairs" and _is_preference(record):
        return replace(_preference(record, index), n_rejected=1)
    item = _READERS[form](record, index)
    if wanted(record) is False:
        return Reading(item=None, n_undesired=1)
    return item


def _check_alone(record: Located) -> None:
    """Refuse one of a pair of answers without the other: whether it is the answer is not clear."""
    given = [
        key for key in KEYS["preference"] if isinstance(record.value.get(key), str | list | dict) and record.value[key]
    ]
    other = [key for key, value in record.value.items() if value and isinstance(value, str | list | dict)]
    other = [key for key in other if key not in _REJECTED and _OTHER_REJECTED.fullmatch(snake(key))]
    if other and not _is_preference(record):
        raise DataError(
            f"{record.where}: {other[0]!r} looks like the answer that is not wanted, and with what it is compared is not clear; "
            "give both as 'chosen' and 'rejected', or remove the key"
        )
    if len(given) == 1 and str(record.value[given[0]]).strip().lower() not in ("true", "false", "0", "1"):
        raise DataError(
            f"{record.where}: {given[0]!r} stands without its counterpart, so what is compared is not clear; give both, or "
            "rename the key"
        )


def _is_preference(record: Located) -> bool:
    return all(record.value.get(key) is not None for key in KEYS["preference"])


def _pairs(record: Located, index: int) -> Reading:
    return _pair(record, index, "q", "r")


def _pair(record: Located, index: int, question: str, answer: str) -> Reading:
    beside = next((key for key in ("system", "history", *TOOLS) if record.value.get(key)), other_system(record))
    if beside is not None and question != "q":
        raise DataError(
            f"{record.where}: {beside!r} goes with messages, but {question!r} and {answer!r} are text; give messages, or put "
            "it into the text"
        )
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
    return _judged(record, index, _turns(record, "messages"))


def _sharegpt(record: Located, index: int) -> Reading:
    """ShareGPT: {"conversations": [{"from", "value"} or {"role", "content"}, ...], "system"?, "tools"?}."""
    return _judged(record, index, _turns(record, "conversations"))


def _alpaca(record: Located, index: int) -> Reading:
    """Alpaca: {"instruction", "input"?, "output", "system"?, "history"?: [[question, answer], ...]}."""
    answer = _answer(record.value.get("output"), record, "output")
    return _judged(
        record, index, [*_instruction(record, ("instruction", "input")), {"role": "assistant", "content": answer}]
    )


def _query(record: Located, index: int) -> Reading:
    """ms-swift: {"query", "response", "system"?, "history"?}."""
    answer = _answer(record.value.get("response"), record, "response")
    return _judged(record, index, [*_instruction(record, ("query",)), {"role": "assistant", "content": answer}])


def _judged(record: Located, index: int, turns: list[dict[str, Any]]) -> Reading:
    """A conversation, of which the last answer alone is scored where it is judged: beside a rejected one (ms-swift), or as wanted."""
    rejected = any(record.value.get(key) is not None for key in _REJECTED)
    reading = conversation(record, index, turns, last=rejected or wanted(record) is not None)
    return replace(reading, n_rejected=1) if rejected else reading


def _completion(record: Located, index: int) -> Reading:
    """TRL: {"prompt", "completion"}, both text (a plain pair) or both messages."""
    prompt, completion = (_unpacked(record.value[key], record, key) for key in ("prompt", "completion"))
    if isinstance(prompt, str) and isinstance(completion, str):
        return _pair(record, index, "prompt", "completion")
    if not isinstance(prompt, list) or not isinstance(completion, list | dict):
        raise DataError(f"{record.where}: 'prompt' and 'completion' must both be text or both be lists of messages")
    return _after(record, index, _list(prompt, record, "prompt"), _list(completion, record, "completion"))


def _preference(record: Located, index: int) -> Reading:
    """Preference data (DPO): the chosen answer after the whole prompt, in which no turn is scored; nor is `rejected`."""
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
        return conversation(record, index, turns, first=_shared(turns, _list(rejected, record, "rejected")))
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
    return conversation(record, index, [*prompt, *answer], first=len(prompt))


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
    """Messages from a cell that holds them as JSON text; any other value as it is."""
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
    speaker: dict[str, Any] = {key: turn[key] for key in ("role", "from") if key in turn}
    return bool(read_message({**speaker, "content": [], "value": []}, record.where)["role"] == "assistant")


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


_READERS: dict[str, Callable[[Located, int], Reading]] = {
    "pairs": _pairs,
    "messages": _messages,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "query": _query,
    "completion": _completion,
    "preference": _preference,
}
