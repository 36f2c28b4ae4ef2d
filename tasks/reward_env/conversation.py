"""SFT data as users have it: OpenAI messages, ShareGPT and Alpaca. Every assistant turn is an r.

A conversation becomes (q, r) pairs through the model's own chat template: q is what the model would be given before
the turn (generation prompt included), r what the template makes of the turn itself, up to its end-of-turn token.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.core.digest import digest_json
from harness.core.errors import CheckpointError, DataError
from harness.core.pair import Pair
from harness.tasks.reward_env.records import Located

SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
    "function_call": "assistant",
}
ROLES = ("system", "developer", "user", "assistant", "tool")
TEMPLATE_DATE = "26 Jul 2024"
"""Templates that print today's date would change a score from day to day; those that ask get this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Messages in OpenAI form (tool-call arguments as objects) with the tools on offer."""

    id: str
    where: str
    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...] = ()

    @property
    def turns(self) -> list[int]:
        """Positions of the assistant's messages."""
        return [index for index, message in enumerate(self.messages) if message["role"] == "assistant"]


@dataclass(frozen=True, kw_only=True)
class ConversationField:
    """A field of conversations; its pairs depend on the tokenizer's chat template, or on the one given."""

    name: str
    source: dict[str, Any]
    content: tuple[Conversation, ...]
    chat_template: str | None = None

    def __post_init__(self) -> None:
        if not self.content:
            raise DataError(f"field {self.name!r} is empty; it needs at least one conversation")

    @property
    def digest(self) -> str:
        rows = [[item.id, list(item.messages), list(item.tools)] for item in self.content]
        return digest_json([rows, self.chat_template])

    def __len__(self) -> int:
        return sum(len(conversation.turns) for conversation in self.content)

    def pairs(self, tokenizer: Any) -> Sequence[Pair]:
        """One pair per assistant turn, clustered by conversation. Raises CheckpointError without a chat template."""
        template = self.chat_template or getattr(tokenizer, "chat_template", None)
        if not template:
            raise CheckpointError(
                f"no chat template in the tokenizer of {tokenizer.name_or_path or 'the model'}, which field {self.name!r} needs; "
                "set chat_template: FILE in the spec or score a checkpoint that has one"
            )
        return [pair for item in self.content for pair in _render(item, tokenizer, template)]

    def head(self, limit: int) -> ConversationField:
        """Whole conversations from the start until `limit` turns are reached."""
        kept, turns = [], 0
        for item in self.content:
            if turns >= limit:
                break
            kept.append(item)
            turns += len(item.turns)
        return replace(self, content=tuple(kept))


def _render(conversation: Conversation, tokenizer: Any, template: str | dict[str, str]) -> list[Pair]:
    def text(n_messages: int, *, generation_prompt: bool) -> str:
        rendered: str = tokenizer.apply_chat_template(
            list(conversation.messages[:n_messages]),
            tools=list(conversation.tools) or None,
            chat_template=template if isinstance(template, str) else None,
            add_generation_prompt=generation_prompt,
            tokenize=False,
            date_string=TEMPLATE_DATE,
        )
        return rendered

    pairs = []
    for turn in conversation.turns:
        try:
            whole = text(turn + 1, generation_prompt=False)
            q = text(turn, generation_prompt=True) if turn else _opening(whole, tokenizer)
            if not whole.startswith(q) and turn:
                # Some templates put into the generation prompt what they leave out of a finished turn.
                q = text(turn, generation_prompt=False)
        except Exception as error:
            raise DataError(
                f"{conversation.where}: the chat template cannot render message {turn + 1}: {' '.join(str(error).split())}"
            ) from error
        if not whole.startswith(q):
            raise DataError(
                f"{conversation.where}: the chat template rewrites earlier text when message {turn + 1} is added, "
                "so that turn has no q; set another chat_template in the spec"
            )
        r = _without_template_tail(whole[len(q) :], tokenizer)
        if not r.strip():
            raise DataError(f"{conversation.where}: the chat template renders message {turn + 1} to nothing")
        pairs.append(Pair(id=f"{conversation.id}.{turn}", q=q, r=r, cluster=conversation.id))
    return pairs


def _opening(whole: str, tokenizer: Any) -> str:
    """q of a conversation that the assistant opens: nothing but the BOS token, where the template writes one."""
    bos = tokenizer.bos_token or ""
    return bos if bos and whole.startswith(bos) else ""


def _without_template_tail(r: str, tokenizer: Any) -> str:
    """Drop the line break that templates add after the end-of-turn token: the model is never asked for it."""
    stripped = r.rstrip()
    ends_turn = any(stripped.endswith(token) for token in tokenizer.all_special_tokens if token)
    return stripped if ends_turn else r


def from_messages(record: Located, index: int) -> Conversation:
    """OpenAI: {"messages": [{"role", "content", "tool_calls"?}], "tools"?}. Raises DataError."""
    messages = record.value["messages"]
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise DataError(f"{record.where}: 'messages' must be a list of objects")
    return _checked(record, index, [_message(message, record.where) for message in messages])


def from_sharegpt(record: Located, index: int) -> Conversation:
    """ShareGPT: {"conversations": [{"from": "human" | "gpt" | ..., "value": ...}], "system"?, "tools"?}."""
    turns = record.value["conversations"]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise DataError(f"{record.where}: 'conversations' must be a list of objects")
    messages: list[dict[str, Any]] = []
    if record.value.get("system"):
        messages.append({"role": "system", "content": record.value["system"]})
    for turn in turns:
        speaker, value = turn.get("from"), turn.get("value")
        if speaker not in SHAREGPT_ROLES or not isinstance(value, str):
            raise DataError(
                f"{record.where}: a ShareGPT turn needs 'from' ({', '.join(SHAREGPT_ROLES)}) and a text 'value', found from={speaker!r}"
            )
        if speaker == "function_call":
            messages.append({"role": "assistant", "content": "", "tool_calls": _sharegpt_calls(value, record.where)})
        else:
            messages.append({"role": SHAREGPT_ROLES[speaker], "content": value})
    return _checked(record, index, [_message(message, record.where) for message in messages])


def from_alpaca(record: Located, index: int) -> Conversation:
    """Alpaca: {"instruction", "input"?, "output", "system"?, "history"?: [[question, answer], ...]}."""
    value = record.value
    messages: list[dict[str, Any]] = []
    if value.get("system"):
        messages.append({"role": "system", "content": value["system"]})
    for exchange in value.get("history") or []:
        if not isinstance(exchange, list | tuple) or len(exchange) != 2:
            raise DataError(f"{record.where}: 'history' must be a list of [question, answer]")
        messages += [{"role": "user", "content": exchange[0]}, {"role": "assistant", "content": exchange[1]}]
    question = "\n".join(part for part in (value.get("instruction"), value.get("input")) if part)
    messages += [{"role": "user", "content": question}, {"role": "assistant", "content": value.get("output")}]
    return _checked(record, index, [_message(message, record.where) for message in messages])


def _message(message: dict[str, Any], where: str) -> dict[str, Any]:
    """One message in the form chat templates expect: text content, tool-call arguments as objects."""
    role = message.get("role")
    if role not in ROLES:
        raise DataError(f"{where}: role {role!r} is none of {', '.join(ROLES)}")
    clean = {key: value for key, value in message.items() if value is not None and key != "weight"}
    clean["content"] = _text(message.get("content"), where)
    if calls := message.get("tool_calls"):
        clean["tool_calls"] = [_call(call, where) for call in calls]
    if role == "assistant" and not clean["content"] and not calls:
        raise DataError(f"{where}: an assistant turn is empty (no content, no tool_calls); remove it")
    return clean


def _text(content: Any, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) == len(parts):
            return "".join(texts)
    raise DataError(f"{where}: message content must be text or text parts; images and audio are not scored")


def _call(call: Any, where: str) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise DataError(f"{where}: a tool call needs a function with a name")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError as error:
            raise DataError(
                f"{where}: arguments of tool call {function['name']!r} are not valid JSON ({error})"
            ) from error
    shell = {key: call[key] for key in ("id", "type") if key in call}
    return {"type": "function", **shell, "function": {"name": function["name"], "arguments": arguments}}


def _sharegpt_calls(value: str, where: str) -> list[Any]:
    try:
        parsed = json.loads(value)
    except ValueError as error:
        raise DataError(f"{where}: a function_call value is not valid JSON ({error})") from error
    return parsed if isinstance(parsed, list) else [parsed]


def _checked(record: Located, index: int, messages: list[dict[str, Any]]) -> Conversation:
    tools = record.value.get("tools") or ()
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except ValueError as error:
            raise DataError(f"{record.where}: 'tools' is not valid JSON ({error})") from error
    if not isinstance(tools, list | tuple) or not all(isinstance(tool, dict) for tool in tools):
        raise DataError(f"{record.where}: 'tools' must be a list of tool schemas")
    conversation = Conversation(
        id=str(record.value.get("id", index)), where=record.where, messages=tuple(messages), tools=tuple(tools)
    )
    if not conversation.turns:
        raise DataError(f"{record.where}: no assistant turn, so nothing to score; remove the conversation")
    return conversation
