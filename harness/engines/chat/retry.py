"""Retries of failed requests with exponential backoff. Knows nothing of any endpoint."""

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

    def pause_s(self, failures: int, asked_s: float | None, rng: random.Random) -> float:
        """The pause after so many failures. `asked_s`: the endpoint's Retry-After, respected up to four times `longest_s`."""
        pause = min(self.longest_s, self.first_s * 2.0 ** (failures - 1)) * (1 - rng.random() / 2)
        return pause if asked_s is None else max(pause, min(asked_s, 4 * self.longest_s))


OF_OUR_SERVER = Backoff(attempts=8, first_s=0.5)
"""For requests to a managed server; `endpoint()` waits for its restart."""


async def retried(
    ask: Callable[[], Awaitable[Answer]], backoff: Backoff, *, between: Callable[[], Awaitable[None]] | None = None
) -> Answer:
    """The result of `ask`, repeated after a TransientError; `between` runs after each pause.

    Raises EndpointError with the last failure once the attempts are used up, and whatever else `ask` raises.
    """
    rng = random.Random()
    failures = 0
    while True:
        try:
            return await ask()
        except TransientError as error:
            failures += 1
            if failures >= backoff.attempts:
                raise EndpointError(f"{error} ({failures} attempt{'s' * (failures > 1)})") from error
            pause = backoff.pause_s(failures, error.retry_after_s, rng)
        await asyncio.sleep(pause)
        if between is not None:
            await between()


class RetryingChat:
    """`inner` with retries after a TransientError."""

    def __init__(self, inner: ChatModel, backoff: Backoff) -> None:
        self.name = inner.name
        self._inner = inner
        self._backoff = backoff

    async def answer(self, request: ChatRequest) -> ChatAnswer:
        """One answer. Raises EndpointError with the last failure once the attempts are used up."""
        return await retried(lambda: self._inner.answer(request), self._backoff)

    async def close(self) -> None:
        """Close connections."""
        await self._inner.close()
