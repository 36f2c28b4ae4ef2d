"""A chat model that is a checkpoint on a managed server, which is restarted if a request fails because it died."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from harness.core.chat import ChatAnswer, ChatRequest, ContextOverflow, EndpointError, TransientError
from harness.core.endpoint import Endpoint
from harness.engines.chat.http_chat import HttpChat
from harness.engines.chat.off_loop import off_loop


class ServedChat:
    """A client of the address that `endpoint()` returns, which blocks until the server answers (core/component.py: Subject.endpoint).

    One attempt per request. After a failed one `endpoint` is called again before the failure is raised, so that another attempt
    finds a server. A HarnessError of `endpoint` (the server is gone for good) is raised as it is.
    """

    def __init__(
        self, endpoint: Callable[[], Endpoint], *, name: str, arguments: Mapping[str, Any], timeout_s: float
    ) -> None:
        self.name = name
        self._endpoint = endpoint
        self._arguments = arguments
        self._timeout_s = timeout_s
        self._where: Endpoint | None = None
        self._chat: HttpChat | None = None
        self._left: list[HttpChat] = []
        self._finding = asyncio.Lock()

    async def answer(self, request: ChatRequest) -> ChatAnswer:
        """One answer, one attempt. Raises TransientError, EndpointError, ContextOverflow or HarnessError."""
        chat = self._chat or await self._find()
        try:
            return await chat.answer(request)
        except ContextOverflow as error:
            where = self._where
            if where is not None and where.own_length is not None:
                raise EndpointError(
                    f"the conversation does not fit {where.max_model_len} tokens, a setting of the server's "
                    f"(serve.max_model_len), where the model's own context has {where.own_length}; raise it ({error})"
                ) from error
            raise
        except TransientError:
            await self._find()
            raise

    async def _find(self) -> HttpChat:
        async with self._finding:
            where = await off_loop(self._endpoint)
            place = where.api_base, where.model
            if self._chat is None or self._where is None or place != (self._where.api_base, self._where.model):
                if self._chat is not None:
                    self._left.append(self._chat)  # others may still wait for its answers
                self._chat = HttpChat(
                    name=self.name,
                    model=where.model,
                    api_base=where.api_base,
                    api_key=where.api_key,
                    arguments=self._arguments,
                    timeout_s=self._timeout_s,
                    logprobs=where.logprobs,
                    opened=where.opens_thought,
                )
            self._where = where
            return self._chat

    async def close(self) -> None:
        """Close the connections."""
        for chat in [*self._left, self._chat]:
            if chat is not None:
                await chat.close()
