"""A model asked again until its answer can be used. Judge and reviewer ask through it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from harness.core.chat import ChatModel, ChatRequest, ContextOverflow, EndpointError, Usage

Value = TypeVar("Value")
ATTEMPTS = 3
LONGEST = 20_000
"""Characters of an unusable answer that the model is shown again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard(Generic[Value]):
    """What was made of an answer; None and `failure` where there is no usable one. `usage` is of all attempts."""

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
    """What `parse` makes of the model's text; where it raises ValueError the model is told why and asked again.

    Never raises for what an endpoint or a transcript can cause: no answer is a failure with its cause.
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
