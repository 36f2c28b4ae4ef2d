"""Repeats a request to a model until its answer parses. Used for the judge and the reviewer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from harness.core.chat import ChatModel, ChatRequest, ContextOverflow, EndpointError, Usage

Value = TypeVar("Value")
ATTEMPTS = 3
LONGEST = 20_000
"""Characters of an unusable answer that are sent back to the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard(Generic[Value]):
    """The parsed answer; `value` None with a `failure` where there is no usable one. `usage` is of all attempts."""

    value: Value | None = None
    failure: str | None = None
    usage: Usage = field(default_factory=Usage)


async def ask_until(
    chat: ChatModel,
    messages: Sequence[dict[str, Any]],
    parse: Callable[[str], Value],
    *,
    tag: str = "",
    attempts: int = ATTEMPTS,
) -> Heard[Value]:
    """The result of `parse` on the model's text. If it raises ValueError, its message is sent to the model, which answers again.

    Errors of an endpoint, and a transcript that is too long, are a failure with a cause and never raised.
    """
    asked, usage, why = list(messages), Usage(), "nobody was asked"
    for _ in range(attempts):
        try:
            answer = await chat.answer(ChatRequest(messages=tuple(asked), tag=tag))
        except ContextOverflow as error:
            return Heard(usage=usage, failure=f"the transcript is too long for it ({error})")
        except EndpointError as error:
            return Heard(usage=usage, failure=f"no answer ({error})")
        usage += answer.usage
        text = answer.content or ""
        try:
            return Heard(value=parse(text), usage=usage)
        except ValueError as error:
            why = str(error)
        again = f"That cannot be used: {why}. Answer again, with the JSON object alone."
        shown = {"role": "assistant", "content": text[:LONGEST] or "(nothing)"}
        asked = [*messages, shown, {"role": "user", "content": again}]
    return Heard(usage=usage, failure=f"{why} ({attempts} attempt{'s' * (attempts > 1)})")
