"""Chat over HTTP with an endpoint that speaks OpenAI's protocol (vLLM, SGLang, llama.cpp, ...), through aiohttp.

litellm does the same for a dozen times the CPU per call (docs/tau2.md has the figures), which decides how many
simulations one core can keep going. One attempt per request: retry.py asks again. The only module that imports aiohttp
for a client.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.core.chat import ChatAnswer, ChatRequest, ContextOverflow, TransientError
from harness.core.secret import hide, hide_in
from harness.engines.chat.wire import body_of, failure, parse_completion

LONGEST_ANSWER = 16 * 2**20
"""Bytes. A model whose answer goes on beyond this is cut off."""


class HttpChat:
    """`model` at `api_base` (such as http://127.0.0.1:8000/v1). The key is sent and never shown.

    `logprobs`: ask how likely each token was, so that an answer made of NaN is a failure.
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
    ) -> None:
        self.name = name
        self._model = model
        self._url = f"{api_base.rstrip('/')}/chat/completions"
        self._api_key = api_key
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._arguments = {**({"logprobs": True} if logprobs else {}), **arguments}
        self._timeout_s = timeout_s
        self._session: Any = None

    def _opened(self) -> Any:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                # Servers (uvicorn, so vLLM too) hang up after 5 s of silence; a request that crosses with that is lost.
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4),
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                headers=self._headers,
            )
        return self._session

    async def answer(self, request: ChatRequest) -> ChatAnswer:
        """One answer, one attempt. Raises TransientError, EndpointError or ContextOverflow."""
        import aiohttp

        body = json.dumps(body_of(self._model, request, self._arguments)).encode()
        try:
            async with self._opened().post(self._url, data=body, allow_redirects=False) as response:
                content = await _read(response)
                if response.status != 200:
                    wait = _seconds(response.headers.get("Retry-After"))
                    raise failure(response.status, self._said(content), retry_after_s=wait)
        except TimeoutError as error:
            raise TransientError(f"no answer within {self._timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise TransientError(hide(f"{type(error).__name__}: {error}", [self._api_key])) from None
        try:
            parsed = hide_in(json.loads(content), [self._api_key])
        except (ValueError, RecursionError) as error:
            said = hide(str(error), [self._api_key])[:100]
            raise TransientError(f"the endpoint answered with broken JSON ({said})") from None
        return parse_completion(parsed)

    def _said(self, content: bytes) -> str:
        """What an endpoint complains of, without the key should it repeat it."""
        return hide(content.decode("utf-8", "replace"), [self._api_key])

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _read(response: Any) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > LONGEST_ANSWER:
            raise ContextOverflow(f"the answer is longer than {LONGEST_ANSWER // 2**20} MiB")
        chunks.append(chunk)
    return b"".join(chunks)


def _seconds(header: str | None) -> float | None:
    try:
        return None if header is None else max(0.0, float(header))
    except ValueError:
        return None
