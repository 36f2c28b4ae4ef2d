"""A chat model as the rest of the program sees it: one request in, one answer out, and what can go wrong. Records only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What answers cost: tokens as the endpoint counted them, money in US dollars. `cost` is None where it is unknown."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None

    def __add__(self, other: Usage) -> Usage:
        known = [cost for cost in (self.cost, other.cost) if cost is not None]
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cost=sum(known) if known else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCall:
    """A tool call as the model wrote it: `arguments` is text that need not be JSON."""

    id: str
    name: str
    arguments: str

    @property
    def wire(self) -> dict[str, Any]:
        """In OpenAI's format."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAnswer:
    """One answer. `finish_reason` is the endpoint's: `stop`, `length`, `tool_calls`, ...

    `content`: the message. `reasoning`: the model's thoughts, which no other participant is sent. `written`: the content as
    received, where the thoughts were inside it; None where they came in a field of their own.
    """

    content: str | None = None
    reasoning: str | None = None
    written: str | None = None
    tool_calls: tuple[ChatCall, ...] = ()
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What a model is asked: messages and tools in OpenAI's format.

    `tag` names the conversation for logs and scripted models; it is not sent to an endpoint.
    """

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] = field(default=())
    tool_choice: str | None = None
    seed: int | None = None
    tag: str = ""


class ChatModel(Protocol):
    """Any chat model. `name` says which one, as the user named it.

        chat = open_chat(ChatSettings(model="hosted_vllm/m", api_base="http://127.0.0.1:8000/v1"))
        answer = await chat.answer(ChatRequest(messages=[{"role": "user", "content": "Hello"}]))

    `engines/scripted/chat.ScriptedChat([...])` is one without a network.
    """

    name: str

    async def answer(self, request: ChatRequest) -> ChatAnswer:
        """One answer. Raises EndpointError or ContextOverflow."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class EndpointError(Exception):
    """There was no answer, and the model is not to blame. Says what happened, never a key."""


class TransientError(EndpointError):
    """Worth another attempt: a timeout, a lost connection, 429, 5xx, an answer that was cut off.

    `retry_after_s`: seconds that the endpoint asked to wait (Retry-After); None where it did not.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ContextOverflow(Exception):  # noqa: N818
    """The conversation is longer than the model's context, or the answer longer than a client reads."""
