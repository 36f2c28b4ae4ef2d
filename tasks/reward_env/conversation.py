"""SFT data as users have it: OpenAI messages, ShareGPT and Alpaca. Every assistant turn is an r.

A conversation becomes (q, r) pairs through the model's own chat template: q is what the model would be given before
the turn (generation prompt included), r what the template makes of the turn itself, up to its end-of-turn token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.core.digest import digest_json
from harness.core.errors import CheckpointError, DataError
from harness.core.pair import Pair
from harness.tasks.reward_env.records import Located, parse_json

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

MARK = "\ue000"
"""A message text that shares no character with any template."""


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
        ends = _special_tokens(tokenizer)
        return [pair for item in self.content for pair in _render(item, tokenizer, template, ends)]

    def head(self, limit: int) -> ConversationField:
        """Whole conversations from the start until `limit` turns are reached."""
        kept, turns = [], 0
        for item in self.content:
            if turns >= limit:
                break
            kept.append(item)
            turns += len(item.turns)
        return replace(self, content=tuple(kept))


def _render(
    conversation: Conversation, tokenizer: Any, template: str | dict[str, str], ends: tuple[str, ...]
) -> list[Pair]:
    def text(messages: Sequence[dict[str, Any]], *, generation_prompt: bool = False) -> str:
        rendered: str = tokenizer.apply_chat_template(
            list(messages),
            tools=list(conversation.tools) or None,
            chat_template=template if isinstance(template, str) else None,
            add_generation_prompt=generation_prompt,
            tokenize=False,
            date_string=TEMPLATE_DATE,
        )
        return rendered

    pairs = []
    for turn in conversation.turns:
        before, message = conversation.messages[:turn], conversation.messages[turn]
        try:
            whole = text([*before, message])
            q = text(before, generation_prompt=True) if before else _opening(whole, tokenizer)
            if not whole.startswith(q) and before:
                # Some templates put into the generation prompt (`<think>`) what they leave out of a finished turn.
                # What any finished turn shares with the prompt stays in q: the turn's header.
                plain = text(before)
                header = _shared_beginning(q, text([*before, {"role": "assistant", "content": MARK}]))
                q = header if header.startswith(plain) and whole.startswith(header) else plain
        except Exception as error:
            raise DataError(
                f"{conversation.where}: the chat template cannot render message {turn + 1}: {' '.join(str(error).split())}"
            ) from error
        if not whole.startswith(q):
            raise DataError(
                f"{conversation.where}: the chat template rewrites earlier text when message {turn + 1} is added, "
                "so that turn has no q; set another chat_template in the spec"
            )
        r = _without_template_tail(whole[len(q) :], ends)
        if not r.strip():
            raise DataError(f"{conversation.where}: the chat template renders message {turn + 1} to nothing")
        for call in conversation.messages[turn].get("tool_calls", ()):
            if call["function"]["name"] not in r:
                raise CheckpointError(
                    f"{conversation.where}: the chat template leaves out the tool call {call['function']['name']!r} of message "
                    f"{turn + 1}, so it cannot be scored; set a chat_template that renders tool calls, or remove the turn"
                )
        pairs.append(Pair(id=f"{conversation.id}.{turn}", q=q, r=r, cluster=conversation.id))
    return pairs


def _shared_beginning(one: str, other: str) -> str:
    differs = (index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return one[: next(differs, min(len(one), len(other)))]


def _opening(whole: str, tokenizer: Any) -> str:
    """q of a conversation that the assistant opens: nothing but the BOS token, where the template writes one."""
    bos = tokenizer.bos_token or ""
    return bos if bos and whole.startswith(bos) else ""


def _special_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Tokens a turn can end with: the named ones (EOS), and those only listed as special (`<end_of_turn>`)."""
    listed = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return tuple({token for token in (*tokenizer.all_special_tokens, *listed) if token})


def _without_template_tail(r: str, ends: tuple[str, ...]) -> str:
    """Drop the line break that templates add after the end-of-turn token: the model is never asked for it."""
    stripped = r.rstrip()
    return stripped if stripped.endswith(ends) else r


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
        if not isinstance(speaker, str) or speaker not in SHAREGPT_ROLES or not isinstance(value, str):
            raise DataError(
                f"{record.where}: a ShareGPT turn needs 'from' ({', '.join(SHAREGPT_ROLES)}) and a text 'value', found from={speaker!r}"
            )
        if speaker == "function_call":
            calls = parse_json(value, f"{record.where}: function_call")
            messages.append({"role": "assistant", "tool_calls": calls if isinstance(calls, list) else [calls]})
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
    question = "\n".join(_text(value[key], record.where) for key in ("instruction", "input") if value.get(key))
    messages += [{"role": "user", "content": question}, {"role": "assistant", "content": value.get("output")}]
    return _checked(record, index, [_message(message, record.where) for message in messages])


def _message(message: dict[str, Any], where: str) -> dict[str, Any]:
    """One message in the form chat templates expect: text content, tool-call arguments as objects.

    OpenAI's older `function_call` and role `function` become a tool call and role `tool`.
    """
    role = "tool" if message.get("role") == "function" else message.get("role")
    if role not in ROLES:
        raise DataError(f"{where}: role {role!r} is none of {', '.join(ROLES)}")
    clean = {key: value for key, value in message.items() if value is not None and key != "weight"}
    clean["role"], clean["content"] = role, _text(message.get("content"), where)
    calls = clean.pop("tool_calls", None) or ([clean.pop("function_call")] if "function_call" in clean else [])
    if not isinstance(calls, list):
        raise DataError(f"{where}: 'tool_calls' must be a list of calls")
    if calls:
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
        arguments = parse_json(arguments or "{}", f"{where}: arguments of tool call {function['name']!r}")
    shell = {key: call[key] for key in ("id", "type") if key in call}
    return {"type": "function", **shell, "function": {"name": function["name"], "arguments": arguments}}


def _checked(record: Located, index: int, messages: list[dict[str, Any]]) -> Conversation:
    tools = record.value.get("tools") or ()
    if isinstance(tools, str):
        tools = parse_json(tools, f"{record.where}: 'tools'")
    if not isinstance(tools, list | tuple) or not all(isinstance(tool, dict) for tool in tools):
        raise DataError(f"{record.where}: 'tools' must be a list of tool schemas")
    identity = record.value.get("id")
    conversation = Conversation(
        id=str(index if identity is None else identity),
        where=record.where,
        messages=tuple(messages),
        tools=tuple(tools),
    )
    if not conversation.turns:
        raise DataError(f"{record.where}: no assistant turn, so nothing to score; remove the conversation")
    return conversation
