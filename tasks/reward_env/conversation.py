"""Conversations as pairs: every answer that the data train on is an r. Knows no file format.

A conversation becomes (q, r) pairs through the model's own chat template: q is the model's prompt for the turn (generation
prompt included), r the rendered turn up to its end-of-turn token. A template that leaves a part of the answer out is
refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from harness.core.digest import digest_json
from harness.core.errors import CheckpointError, DataError
from harness.core.pair import Pair
from harness.core.template_trial import endless
from harness.tasks.reward_env.message import answer_parts

TEMPLATE_DATE = "26 Jul 2024"
"""The date for templates that print today's, as `date_string`: without it a score would change from day to day."""

MARK = "\ue000"
"""A message text that occurs in no template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Messages in OpenAI form (tool-call arguments as objects) with the tools on offer.

    `answers` are the positions of the messages that are scored, where that is not every one of the assistant's.
    """

    id: str
    where: str
    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...] = ()
    answers: tuple[int, ...] | None = None

    @property
    def turns(self) -> list[int]:
        """Positions of the messages that are scored."""
        if self.answers is not None:
            return list(self.answers)
        return [index for index, message in enumerate(self.messages) if message["role"] == "assistant"]


@dataclass(frozen=True, kw_only=True)
class ConversationField:
    """A field of conversations; its pairs depend on the tokenizer's chat template, or on the one given."""

    caveat: ClassVar[str | None] = None
    name: str
    source: dict[str, Any]
    content: tuple[Conversation, ...]
    chat_template: str | None = None

    def __post_init__(self) -> None:
        if not self.content:
            raise DataError(f"field {self.name!r} is empty; it needs at least one conversation")

    @property
    def digest(self) -> str:
        rows = [
            [item.id, list(item.messages), list(item.tools), *([] if item.answers is None else [list(item.answers)])]
            for item in self.content
        ]
        # Where an answer opens a conversation, earlier versions had its header in r: another measurement.
        opening = ["header in q"] if any(0 in item.turns for item in self.content) else []
        return digest_json([rows, self.chat_template, *opening])

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
        content = [(item.messages, item.tools or None, item.turns) for item in self.content]
        if why := endless(template, content):
            where = (
                "chat_template of the spec"
                if self.chat_template
                else f"tokenizer of {tokenizer.name_or_path or 'the model'}"
            )
            raise CheckpointError(f"{why} ({where}), so field {self.name!r} is not rendered with it")
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

    def introduced(self, text: str) -> ConversationField:
        """With a system message before every conversation; where one begins with one, the text above it and a blank line."""
        return replace(self, content=tuple(_introduced(item, text) for item in self.content))


def _introduced(item: Conversation, text: str) -> Conversation:
    first = item.messages[0]
    if first["role"] in ("system", "developer"):
        content = f"{text}\n\n{first['content']}" if first["content"] else text
        return replace(item, messages=({**first, "content": content}, *item.messages[1:]))
    return replace(
        item,
        messages=({"role": "system", "content": text}, *item.messages),
        answers=None if item.answers is None else tuple(answer + 1 for answer in item.answers),
    )


def _render(
    conversation: Conversation, tokenizer: Any, template: str | dict[str, str], ends: tuple[str, ...]
) -> list[Pair]:
    def text(
        messages: Sequence[dict[str, Any]],
        *,
        generation_prompt: bool = False,
        tools: Sequence[dict[str, Any]] = conversation.tools,
    ) -> str:
        rendered: str = tokenizer.apply_chat_template(
            list(messages),
            tools=list(tools) or None,
            chat_template=template if isinstance(template, str) else None,
            add_generation_prompt=generation_prompt,
            tokenize=False,
            date_string=TEMPLATE_DATE,
        )
        return rendered

    pairs: list[Pair] = []
    for turn in conversation.turns:
        before, message = conversation.messages[:turn], conversation.messages[turn]
        try:
            whole = text([*before, message])
            q = text(before, generation_prompt=True) if before else _opening(whole, text)
            if not whole.startswith(q) and before:
                # Some generation prompts hold text (`<think>`) that the template leaves out of a finished turn.
                # q is then the part of the prompt that every finished turn begins with: the turn's header.
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
        left_out = _left_out(message, r, partial(_differs, text, before, whole))
        if left_out is not None:
            raise CheckpointError(
                f"{conversation.where}: the chat template leaves out {left_out} of message {turn + 1}, so it cannot be "
                "scored; set a chat_template that renders it, or remove the turn"
            )
        if not pairs:
            _check_context(conversation, text)
        pairs.append(Pair(id=f"{conversation.id}.{turn}", q=q, r=r, cluster=conversation.id))
    return pairs


def _left_out(message: dict[str, Any], r: str, differs: Callable[[dict[str, Any]], bool]) -> str | None:
    """The first part of an answer that does not stand in r, in words; None where all of it does.

    `differs` says whether the conversation is rendered differently with another message in the answer's place.
    """
    calls = message.get("tool_calls", ())
    for position, call in enumerate(calls):
        before, after = calls[:position], calls[position + 1 :]
        if call["function"]["name"] not in r or not differs({**message, "tool_calls": [*before, *after]}):
            return f"the tool call {call['function']['name']!r}"
        bare = {**call, "function": {**call["function"], "arguments": {}}}
        if call["function"]["arguments"] and not differs({**message, "tool_calls": [*before, bare, *after]}):
            return "the arguments of a tool call"
    printed = _black(r)
    # A template may print a thought that stands in the content on separate lines, or with other marks.
    if not all(_black(piece) in printed for piece in re.split(r"</?think(?:ing)?>", message["content"])):
        return "text of the content"
    for key in answer_parts(message):
        if not _shown(key, message, printed, differs):
            return repr(key)
    return None


def _shown(key: str, message: dict[str, Any], printed: str, differs: Callable[[dict[str, Any]], bool]) -> bool:
    """Whether a part of an answer is printed, under its own key or where its text stands a second time: in another part
    (LiteLLM), or at the beginning of the content (SWE-agent)."""
    if differs({name: value for name, value in message.items() if name != key}):
        return _thought(message[key]) in printed
    thought = _thought(message[key])
    content = _black(message["content"])
    if any(content.removeprefix(mark).startswith(thought or MARK) for mark in ("", "<think>", "<thinking>")):
        return True
    copies = [name for name in answer_parts(message) if name != key and thought and _thought(message[name]) == thought]
    return any(differs({name: value for name, value in message.items() if name not in (key, copy)}) for copy in copies)


def _thought(part: Any) -> str:
    """The text of a thought, which may be a list of blocks, without white space and marks; empty where there is none."""
    if isinstance(part, list):
        texts = [block.get(name) for block in part if isinstance(block, dict) for name in ("thinking", "text", "value")]
        part = "".join(text for text in texts if isinstance(text, str))
    return _black(re.sub(r"</?think(?:ing)?>", "", part)) if isinstance(part, str) else ""


def _differs(
    text: Callable[[Sequence[dict[str, Any]]], str],
    before: Sequence[dict[str, Any]],
    whole: str,
    message: dict[str, Any],
) -> bool:
    return _rendered(partial(text, [*before, message])) != whole


def _rendered(render: Callable[[], str]) -> str | None:
    from jinja2 import TemplateError

    try:
        return render()
    except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None  # a template that fails without a part uses it


def _check_context(conversation: Conversation, text: Callable[..., str]) -> None:
    """Refuse a template that leaves out context of an answer: tools, functions, a system prompt, the result of a tool. One of
    each is tried, up to the user's next turn: some templates print it only there. Raises CheckpointError."""
    before = conversation.messages[: conversation.turns[-1]]
    users = [position for position, message in enumerate(before) if message["role"] == "user"]
    tried: set[str] = set()

    def check(what: str, name: str, position: int, without: Sequence[dict[str, Any]], **options: Any) -> None:
        end = (
            position + 1 if what == "tool" else next((user for user in users if user >= position), len(before) - 1) + 1
        )
        if what in tried or not end:
            return
        tried.add(what)
        if _rendered(partial(text, without[:end], **options)) == text(before[:end]):
            raise CheckpointError(
                f"{conversation.where}: the chat template leaves out {name}, which the answer follows from; "
                "set a chat_template that shows it, or remove it from the data"
            )

    if conversation.tools:
        check("tools", "the tools on offer", 0, before, tools=())
    for position, message in enumerate(before):
        around = before[:position], before[position + 1 :]
        for key in ("functions", "tools"):  # Dolci, GLM
            if message.get(key):
                bare = {name: value for name, value in message.items() if name != key}
                check(key, f"the {key!r} of message {position + 1}", position, [*around[0], bare, *around[1]])
        if message["role"] not in ("user", "assistant") and message["content"]:
            other = [*around[0], {**message, "content": MARK}, *around[1]]
            check(message["role"], f"message {position + 1} ({message['role']})", position, other)


def _black(text: str) -> str:
    """Text without its white space, which templates trim and add."""
    return "".join(text.split())


def _shared_beginning(one: str, other: str) -> str:
    differs = (index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return one[: next(differs, min(len(one), len(other)))]


def _opening(whole: str, text: Callable[..., str]) -> str:
    """q of a conversation that the assistant opens: what the template writes before any answer."""
    question = [{"role": "user", "content": MARK}]
    header = text(question, generation_prompt=True).removeprefix(text(question))
    at = whole.find(header) if header else -1
    if at >= 0:
        return whole[: at + len(header)]
    return _shared_beginning(whole, text([{"role": "assistant", "content": MARK}]))


def _special_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Tokens a turn can end with: the named ones (EOS), and those only listed as special (`<end_of_turn>`)."""
    listed = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return tuple({token for token in (*tokenizer.all_special_tokens, *listed) if token})


def _without_template_tail(r: str, ends: tuple[str, ...]) -> str:
    """Drop the line break that templates add after the end-of-turn token: the model never generates it."""
    stripped = r.rstrip()
    return stripped if stripped.endswith(ends) else r
