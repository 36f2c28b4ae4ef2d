"""Blocking calls from an event loop that may take minutes and must not delay the end of the program."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def off_loop(function: Callable[[], T]) -> T:
    """Run a blocking function in a daemon thread. On cancellation the thread is abandoned; with `asyncio.to_thread` the loop would
    wait for it at shutdown.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(act: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the result is not needed
            loop.call_soon_threadsafe(lambda: None if answer.done() else act())

    def work() -> None:
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - raised in the awaiting task
            failure = error
            settle(lambda: answer.set_exception(failure))
        else:
            settle(lambda: answer.set_result(result))

    threading.Thread(target=work, daemon=True).start()
    return await answer
