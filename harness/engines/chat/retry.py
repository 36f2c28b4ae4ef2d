"""A chat model that asks again when its endpoint failed, with growing pauses. Knows nothing of any endpoint."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from harness.core.chat import ChatAnswer, ChatModel, ChatRequest, EndpointError, TransientError


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


class RetryingChat:
    """`inner`, asked again after a TransientError."""

    def __init__(self, inner: ChatModel, backoff: Backoff) -> None:
        self.name = inner.name
        self._inner = inner
        self._backoff = backoff
        self._dice = random.Random()

    async def answer(self, request: ChatRequest) -> ChatAnswer:
        """One answer. Raises EndpointError with the last failure once the attempts are used up."""
        failures = 0
        while True:
            try:
                return await self._inner.answer(request)
            except TransientError as error:
                failures += 1
                if failures >= self._backoff.attempts:
                    raise EndpointError(f"{error} ({failures} attempts)") from error
                pause = self._backoff.pause_s(failures, error.retry_after_s, self._dice)
            await asyncio.sleep(pause)

    async def close(self) -> None:
        """Give back connections."""
        await self._inner.close()
