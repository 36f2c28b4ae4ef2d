"""JSON over HTTP to an endpoint of a model, through aiohttp: one attempt, bounded, without redirects, and with the key kept secret.

Chat and text completions both ask through it; retry.py asks again.
"""

from __future__ import annotations

import json
import os
from typing import Any

from harness.core.chat import ContextOverflow, TransientError
from harness.core.errors import SpecError
from harness.core.extras import install
from harness.core.secret import hide, hide_in
from harness.engines.chat.wire import failure

LONGEST_ANSWER = 16 * 2**20
"""Bytes after which reading an answer stops with a ContextOverflow."""


class Session:
    """Connections to one or several endpoints, opened when the first request is made. `timeout_s` is for one answer."""

    def __init__(self, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._session: Any = None

    def _opened(self) -> Any:
        try:
            import aiohttp
        except ImportError as error:
            raise SpecError(f"asking a server needs aiohttp; {install('suites')}") from error
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # uvicorn (and so vLLM) closes a connection after 5 s of silence; a request sent at that moment would be lost.
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4),
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                headers={"Content-Type": "application/json", "Accept": "application/json"},
            )
        return self._session

    async def post(self, url: str, body: Any, *, api_key: str | None) -> Any:
        """The JSON of the response, with the key masked should it occur.

        Raises TransientError, EndpointError or ContextOverflow.
        """
        session = self._opened()
        import aiohttp

        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        try:
            async with session.post(
                url, data=json.dumps(body).encode(), headers=headers, allow_redirects=False
            ) as response:
                content = await _read(response)
                if response.status != 200:
                    said = hide(content.decode("utf-8", "replace"), [api_key])
                    raise failure(response.status, said, retry_after_s=_seconds(response.headers.get("Retry-After")))
        except TimeoutError as error:
            raise TransientError(f"no answer within {self._timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise TransientError(hide(_words(error), [api_key])) from None
        try:
            return hide_in(json.loads(content), [api_key])
        except (ValueError, RecursionError) as error:
            said = hide(str(error), [api_key])[:100]
            raise TransientError(f"the endpoint answered with broken JSON ({said})") from None

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


def _words(error: Exception) -> str:
    """What went wrong on the way to an endpoint: who does not answer and what to look at, or the library's own words."""
    import aiohttp

    untrusted = (aiohttp.ClientSSLError, aiohttp.ClientConnectorCertificateError)
    if not isinstance(error, aiohttp.ClientConnectorError) or isinstance(error, untrusted):
        return f"{type(error).__name__}: {error}"
    cause = error.os_error
    why = os.strerror(cause.errno) if cause.errno and cause.errno > 0 else cause.strerror or cause
    return f"nothing answers at {error.host}:{error.port} ({why}); is the address right, and its server running?"
