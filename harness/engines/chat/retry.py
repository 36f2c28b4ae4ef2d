"""Asking again when an endpoint failed, with growing pauses. Knows nothing of any endpoint."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from harness.core.chat import ChatAnswer, ChatModel, ChatRequest, EndpointError, TransientError

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """`attempts` in all; the pause before attempt n is `first_s` * 2^(n-2), at most `longest_s`, less up to a half."""

    attempts: int = 6
    first_s: float = 1.0
    longest_s: float = 30.0

    def pause_s(self, failures: int, asked_s: float | None, dice: random.Random) -> float:
        """The pause after so many failures. What the endpoint asks for is granted up to four times `longest_s`."""
        pause = min(self.longest_s, self.first_s * 2.0 ** (failures - 1)) * (1 - dice.random() / 2)
        return pause if asked_s is None else max(pause, min(asked_s, 4 * self.longest_s))


OF_OUR_SERVER = Backoff(attempts=8, first_s=0.5)
"""For one answer of a server of our own; that it comes back is waited for elsewhere."""


async def retried(
    ask: Callable[[], Awaitable[Answer]], backoff: Backoff, *, between: Callable[[], Awaitable[None]] | None = None
) -> Answer:
    """What `ask` gives, asked again after a TransientError; `between` runs after each pause.

    Raises EndpointError with the last failure once the attempts are used up, and whatever else `ask` raises.
    """
    dice = random.Random()
    failures = 0
    while True:
        try:
            return await ask()
        except TransientError as error:
            failures += 1
            if failures >= backoff.attempts:
                raise EndpointError(f"{error} ({failures} attempts)") from error
            pause = backoff.pause_s(failures, error.retry_after_s, dice)
        await asyncio.sleep(pause)
        if between is not None:
            await between()


class RetryingChat:
    """`inner`, asked again after a TransientError."""

    def __init__(self, inner: ChatModel, backoff: Backoff) -> None:
        self.name = inner.name
        self._inner = inner
        self._backoff = backoff

    async def answer(self, request: ChatRequest) -> ChatAnswer:
        """One answer. Raises EndpointError with the last failure once the attempts are used up."""
        return await retried(lambda: self._inner.answer(request), self._backoff)

    async def close(self) -> None:
        """Give back connections."""
        await self._inner.close()
