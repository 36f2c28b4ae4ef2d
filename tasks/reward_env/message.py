"""One turn of a data file as the message that chat templates expect. Knows neither record nor template.

Whatever form a turn has (role and content, from and value, text parts, a thought before a call), the message has text
content, reasoning under its own key, and tool calls with their arguments as objects.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from harness.core.errors import DataError
from harness.tasks.reward_env.marks import snake
from harness.tasks.reward_env.records import check_json, parse_json

SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "observations": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "function_call": "assistant",
    "tool_call": "assistant",
}
CALLS = ("function_call", "tool_call")
"""Roles whose content is the JSON of a call, a part of the assistant's turn that they stand in (LLaMA-Factory, ms-swift)."""
ROLES = ("system", "developer", "user", "assistant", "tool", "environment")
"""The last one is open-instruct's of what calls gave; templates print it as it stands."""
_ALIASES = {**{role: role for role in ROLES}, **SHAREGPT_ROLES, "function": "tool"}

REASONING = (
    "reasoning_content",
    "reasoning",
    "thinking",
    "thought",
    "thoughts",
    "thinking_content",
    "reasoning_details",
)
_PARTS = (*REASONING, "function_calls", "refusal", "tool_plan", "chain_of_thought", "cot")
_THOUGHT = re.compile(
    r"reason|(.+_)?(reasoning|think|thinking|thoughts?|cot|scratch_?pad|rationale|monologue|reflection|deliberation|analysis)"
    r"(_(content|text|trace|process|chain|block|blocks|steps?|details))?"
)
"""Other keys of a thought; not those of its size, cost or signature (`reasoning_tokens`, `thinking_signature`)."""
MEDIA = ("image", "images", "image_url", "input_image", "video", "videos", "video_url", "audio", "audios", "audio_url")
_TEXT_TYPES = (None, "text", "input_text", "output_text")
_REASONING_TYPES = ("reasoning", "thinking", "thought", "think")
_CALL_TYPES = ("tool_call", "tool_calls", "function_call", "tool_use")
_OF_A_CALL = ("id", "type", "index", "function", "tool_call_id", "call_id", "status")
_OF_A_FUNCTION = (
    "name",
    "arguments",
    "id",
    "type",
    "index",
    "description",
    "strict",
    "tool_call_id",
    "call_id",
    "status",
)
_OF_THE_WIRE = (
    "cache_control",
    "caller",
    "extra_content",
    "provider_specific_fields",
    "signature",
    "thought_signature",
)
"""Keys that Anthropic's, Google's and LiteLLM's answers have in a call and their next requests send back; no trainer reads them."""
_NOT_TEXT = "message content must be text or text parts; images and audio are not scored"


class Parts(NamedTuple):
    """What the content of a turn holds."""

    text: str
    reasoning: str
    calls: list[Any]


def answer_parts(turn: dict[str, Any]) -> list[str]:
    """The keys of an assistant's turn, beside content and tool calls, that hold a part of the answer: a template has to print
    each. `channel` (gpt-oss) is one where the text is not the final answer."""
    parts = [key for key in _PARTS if turn.get(key)]
    for key, value in turn.items():
        if key in _PARTS or not value or not isinstance(value, str | list | dict):
            continue
        if _THOUGHT.fullmatch(snake(key)) or (key == "channel" and value != "final"):
            parts.append(key)
    return parts


def read_message(turn: dict[str, Any], where: str) -> dict[str, Any]:
    """One message in the form chat templates expect. Raises DataError.

    OpenAI's older `function_call` and role `function` become a tool call and role `tool`.
    """
    for key in (*MEDIA, "input_audio"):
        if turn.get(key):
            raise DataError(f"{where}: a turn has {key!r}; images, video and audio are not scored")
    if (
        turn.get("role") is not None
        and turn.get("from") is not None
        and _speaker(turn["role"]) != _speaker(turn["from"])
    ):
        raise DataError(f"{where}: a turn has 'role' {turn['role']!r} and 'from' {turn['from']!r}; remove one of them")
    if turn.get("value") and turn.get("content") and turn["value"] != turn["content"]:
        raise DataError(f"{where}: a turn has 'value' and 'content', and they differ; remove one of them")
    if turn.get("role") is None and turn.get("from") is not None:
        return _from_sharegpt(turn, where)
    role = turn.get("role")
    if not isinstance(role, str) or role.lower() not in _ALIASES:
        raise DataError(f"{where}: role {role!r} is none of {', '.join(ROLES)}")
    name = role.lower()
    content = turn.get("content") if turn.get("content") is not None else turn.get("value")
    if name in CALLS:
        kept = {key: value for key, value in turn.items() if key not in ("weight", "value", "content")}
        return _finished(_call_turn(kept, content, where), _ALIASES[name], where)
    if name == "tool_response" and isinstance(content, dict | list):  # ms-swift shows it so
        content = json.dumps(content, ensure_ascii=False)
    from_value = turn.get("content") is None
    clean = {key: value for key, value in turn.items() if key != "weight" and not (from_value and key == "value")}
    return _finished({**clean, "content": content}, _ALIASES[name], where)


def is_call_turn(turn: dict[str, Any]) -> bool:
    """Whether a turn has a role that says it is a call, which stands with the text before it in one answer."""
    name = turn.get("role") if turn.get("role") is not None else turn.get("from")
    return isinstance(name, str) and name.lower() in CALLS


def _speaker(name: Any) -> Any:
    return _ALIASES.get(name.lower(), name) if isinstance(name, str) else name


def _from_sharegpt(turn: dict[str, Any], where: str) -> dict[str, Any]:
    speaker, value = turn["from"], turn.get("value")
    if value is None and (turn.get("content") is not None or turn.get("tool_calls")):
        value = turn.get("content") or ""
    name = speaker.lower() if isinstance(speaker, str) else None
    if name not in SHAREGPT_ROLES or not isinstance(value, str | list | dict):
        raise DataError(
            f"{where}: a ShareGPT turn needs 'from' ({', '.join(SHAREGPT_ROLES)}) and a text 'value', found from={speaker!r}"
        )
    kept = {
        key: turn[key]
        for key in (*answer_parts(turn), "functions", "tools", "tool_calls", "function_call")
        if turn.get(key)
    }
    if name in CALLS:
        return _finished(_call_turn(kept, value, where), "assistant", where)
    return _finished({**kept, "content": value}, SHAREGPT_ROLES[name], where)


def _call_turn(kept: dict[str, Any], value: Any, where: str) -> dict[str, Any]:
    """A turn of the role `function_call` or `tool_call`: a call, or JSON of one or several, and what is thought or said
    before it as content."""
    if isinstance(value, dict):
        return {**kept, "content": "", "tool_calls": [value]}
    if not isinstance(value, str):
        return {**kept, "content": value}
    text = value.strip()
    begins = [index for index, character in enumerate(text) if character in "{["]
    for begin in begins if text[:1] not in ("{", "[") else []:
        try:
            calls = json.loads(text[begin:])
        except (ValueError, RecursionError):
            continue
        found = calls if isinstance(calls, list) else [calls]
        if found and all(isinstance(call, dict) and "name" in call.get("function", call) for call in found):
            parse_json(text[begin:], f"{where}: function_call")
            return {**kept, "content": text[:begin].rstrip(), "tool_calls": found}
    calls = parse_json(value, f"{where}: function_call")
    return {**kept, "content": "", "tool_calls": calls if isinstance(calls, list) else [calls]}


def _finished(turn: dict[str, Any], role: str, where: str) -> dict[str, Any]:
    parts = _parts(turn.get("content"), where)
    clean = {key: value for key, value in turn.items() if value is not None}
    clean["role"], clean["content"] = role, parts.text
    calls = _list_of_calls(clean.pop("tool_calls", None), where)
    single = clean.pop("function_call", None)
    if single and not calls:
        calls = [parse_json(single, f"{where}: function_call") if isinstance(single, str) else single]
    if parts.calls and calls:
        raise DataError(f"{where}: tool calls stand in the content and in 'tool_calls'; remove one of them")
    calls = calls or parts.calls
    if role != "assistant" and (parts.reasoning or parts.calls):
        raise DataError(f"{where}: a part of a {role} turn is reasoning or a tool call, which only answers have")
    for key in ("reasoning_content", "reasoning", "thinking", "thought"):
        if role == "assistant" and not isinstance(clean.get(key, ""), str):
            raise DataError(f"{where}: {key!r} of an answer is {type(clean[key]).__name__}; it must be text")
    if parts.reasoning:
        if any(clean.get(key) for key in REASONING):
            raise DataError(f"{where}: reasoning stands in the content and beside it; remove one of them")
        clean["reasoning_content"] = parts.reasoning
    if calls:
        clean["tool_calls"] = [_call(call, where) for call in calls]
    return clean


def _list_of_calls(calls: Any, where: str) -> list[Any]:
    if isinstance(calls, str) and calls.lstrip()[:1] in ("[", "{"):
        calls = parse_json(calls, f"{where}: 'tool_calls'")
        calls = [calls] if isinstance(calls, dict) else calls
    if calls and not isinstance(calls, list):
        raise DataError(f"{where}: 'tool_calls' must be a list of calls")
    return calls or []


def text_of(content: Any, where: str) -> str:
    """Content that is text, or parts of text, joined. Raises DataError."""
    parts = _parts(content, where)
    if parts.reasoning or parts.calls:
        raise DataError(f"{where}: {_NOT_TEXT}")
    return parts.text


def _parts(content: Any, where: str) -> Parts:
    if content is None:
        return Parts("", "", [])
    if isinstance(content, str):
        return Parts(content, "", [])
    if not isinstance(content, list):
        raise DataError(f"{where}: {_NOT_TEXT}")
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[Any] = []
    for part in content:
        if isinstance(part, str):
            part = {"text": part}
        kind = part.get("type") if isinstance(part, dict) else ""
        if not isinstance(part, dict) or any(part.get(key) for key in MEDIA):
            raise DataError(f"{where}: {_NOT_TEXT}")
        if kind in _TEXT_TYPES:
            if calls:
                raise DataError(
                    f"{where}: text stands after a tool call, where no template prints it; reorder the parts"
                )
            texts.append(_part(part, ("text", "value", "content"), where))
        elif kind in _REASONING_TYPES:
            if texts or calls:
                raise DataError(f"{where}: reasoning stands after text, where no template prints it; reorder the parts")
            thoughts.append(_part(part, ("value", "text", "content", *_REASONING_TYPES), where))
        elif kind in _CALL_TYPES:
            calls += _part_calls(part, where)
        else:
            raise DataError(f"{where}: a part of type {kind!r} is not scored: {_NOT_TEXT}")
    return Parts("".join(texts), "".join(thoughts), calls)


def _part(part: dict[str, Any], keys: tuple[str, ...], where: str) -> str:
    found = {part[key] for key in keys if isinstance(part.get(key), str)}
    texts = found - {""} or found
    if len(texts) != 1:
        raise DataError(f"{where}: a part of the content has {'several texts' if texts else 'no text'}; {_NOT_TEXT}")
    return str(texts.pop())


def _part_calls(part: dict[str, Any], where: str) -> list[Any]:
    if isinstance(part.get("name"), str):
        return [{("arguments" if key == "input" else key): value for key, value in part.items()}]
    value = next((part[key] for key in ("value", "tool_call", "tool_calls", "function") if part.get(key)), None)
    if isinstance(value, str):
        value = parse_json(value, f"{where}: a part of type {part['type']!r}")
    return value if isinstance(value, list) else [value]


def _call(call: Any, where: str) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise DataError(f"{where}: a tool call needs a function with a name")
    beside = {} if call is function else {key: value for key, value in call.items() if key not in _OF_A_CALL}
    beside |= {key: value for key, value in function.items() if key not in _OF_A_FUNCTION}
    said = (key for key, value in beside.items() if value not in (None, "", [], {}))
    other = next((key for key in said if key not in _OF_THE_WIRE), None)
    if other is not None:
        raise DataError(
            f"{where}: tool call {function['name']!r} has the key {other!r}, which no template prints; give what is called "
            "with as 'arguments', or remove the key"
        )
    arguments = function.get("arguments", {})
    place = f"{where}: arguments of tool call {function['name']!r}"
    if isinstance(arguments, str):
        arguments = parse_json(arguments or "{}", place)
    if isinstance(arguments, str | int | float):
        raise DataError(f"{place} are {type(arguments).__name__}; they must be an object, or one as JSON text")
    check_json(arguments, place)
    shell = {key: call[key] for key in ("id", "type") if key in call}
    return {"type": "function", **shell, "function": {"name": function["name"], "arguments": arguments}}
