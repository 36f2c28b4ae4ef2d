"""Chat over HTTP with an endpoint that speaks OpenAI's protocol (vLLM, SGLang, llama.cpp, ...).

litellm does the same for a dozen times the CPU per call (docs/tau2.md has the figures), which decides how many
simulations one core can keep going. One attempt per request: retry.py asks again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.core.chat import ChatAnswer, ChatRequest
from harness.engines.chat.session import Session
from harness.engines.chat.wire import body_of, parse_completion, thinks_as_usual


class HttpChat:
    """`model` at `api_base` (such as http://127.0.0.1:8000/v1). The key is sent and never shown.

    `logprobs`: request each token's log-prob, so that an answer computed from NaN is a failure. `opened`: prompts end within a thought.
    """

    def __init__(
        self,
        *,
        name: str,
        model: str,
        api_base: str,
        api_key: str | None,
        arguments: Mapping[str, Any],
        timeout_s: float,
        logprobs: bool = False,
        opened: bool = False,
    ) -> None:
        self.name = name
        self._model = model
        self._url = f"{api_base.rstrip('/')}/chat/completions"
        self._api_key = api_key
        self._arguments = {**({"logprobs": True} if logprobs else {}), **arguments}
        self._opened = opened and thinks_as_usual(arguments)
        self._session = Session(timeout_s=timeout_s)

    async def answer(self, request: ChatRequest) -> ChatAnswer:
        """One answer, one attempt. Raises TransientError, EndpointError or ContextOverflow."""
        body = body_of(self._model, request, self._arguments)
        return parse_completion(await self._session.post(self._url, body, api_key=self._api_key), opened=self._opened)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()
