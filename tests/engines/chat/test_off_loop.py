"""Blocking calls beside an event loop: answers and errors come back, and a program that ends does not wait for them."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from harness.engines.chat.off_loop import off_loop


def test_answers_and_errors_come_back() -> None:
    async def both() -> int:
        with pytest.raises(ZeroDivisionError):
            await off_loop(lambda: 1 // 0)
        return await off_loop(lambda: 7)

    assert asyncio.run(both()) == 7


def test_nobody_waits_for_what_was_cancelled() -> None:
    release, over = threading.Event(), threading.Event()

    def call() -> None:
        release.wait(60)
        over.set()

    async def cancelled() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await off_loop(call)

    asyncio.run(cancelled())
    assert not over.is_set()
    release.set()
    assert over.wait(60)
    time.sleep(0.05)  # its answer finds a closed loop, and says nothing


def test_the_loop_goes_on_meanwhile() -> None:
    async def beside() -> list[str]:
        order: list[str] = []
        release = threading.Event()
        waiting = asyncio.ensure_future(off_loop(lambda: release.wait(60)))
        await asyncio.sleep(0.01)
        order.append("loop")
        release.set()
        await waiting
        order.append("call")
        return order

    assert asyncio.run(beside()) == ["loop", "call"]
