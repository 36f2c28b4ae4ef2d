"""A chat model that answers from a script, for demonstrations and tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

from harness.core.chat import ChatAnswer, ChatCall, ChatRequest, Usage

Reply = ChatAnswer | str | Exception
"""What a script holds: an answer, a text, or an error to raise."""


def calling(*calls: tuple[str, Any], content: str | None = None) -> ChatAnswer:
    """An answer that calls tools: (name, arguments); arguments that are a str are sent verbatim, others as JSON."""
    made = tuple(
        ChatCall(
            id=f"call_{number}",
            name=name,
            arguments=arguments if isinstance(arguments, str) else json.dumps(arguments),
        )
        for number, (name, arguments) in enumerate(calls)
    )
    return ChatAnswer(content=content, tool_calls=made, finish_reason="tool_calls")


class ScriptedChat:
    """Answers with the next reply of `script`, or with what `script`, a function of the request, returns.

    `requests` holds every request. Raises IndexError when the script is used up: then the test is wrong, not the model.
    """

    def __init__(
        self,
        script: Iterable[Reply] | Callable[[ChatRequest], Reply],
        *,
        name: str = "scripted",
        latency_s: float = 0.0,
    ) -> None:
        self.name = name
        self.requests: list[ChatRequest] = []
        self.closed = False
        self._latency_s = latency_s
        self._next = script if callable(script) else _in_order(list(script))

    async def answer(self, request: ChatRequest) -> ChatAnswer:
        """The next reply."""
        self.requests.append(request)
        if self._latency_s:
            await asyncio.sleep(self._latency_s)
        reply = self._next(request)
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, str):
            return ChatAnswer(
                content=reply, finish_reason="stop", usage=Usage(prompt_tokens=1, completion_tokens=len(reply.split()))
            )
        return reply

    async def close(self) -> None:
        """Set `closed`."""
        self.closed = True


def _in_order(replies: list[Reply]) -> Callable[[ChatRequest], Reply]:
    rest = iter(replies)

    def following(_: ChatRequest) -> Reply:
        for reply in rest:
            return reply
        raise IndexError(f"the script of {len(replies)} replies is used up")

    return following
