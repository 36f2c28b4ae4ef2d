"""A scripted model behind HTTP: an endpoint that speaks OpenAI's protocol, with any latency, and misbehaves as configured.

For demonstrations, benchmarks and tests. The script is a function as ScriptedChat takes it; text completions come from a
completer: a script as well, or a model (engines/chat/transformers_completer.py), which needs no vLLM.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from harness.core.chat import ChatAnswer, ChatRequest
from harness.core.errors import SpecError, StateError
from harness.core.extras import install
from harness.engines.scripted.trouble import TROUBLES, Sent, Trouble, encode

LARGEST_REQUEST = 64 * 2**20
"""Bytes."""


def completion(answer: ChatAnswer, number: int, model: str) -> dict[str, Any]:
    """An answer as a chat completion."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.content}
    if answer.reasoning is not None:
        message["reasoning"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = [call.wire for call in answer.tool_calls]
    prompt, completed = answer.usage.prompt_tokens, answer.usage.completion_tokens
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason or "stop"}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completed, "total_tokens": prompt + completed},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest:
    """A request for a completion: the prompt as text or as token ids, and everything sent with it."""

    prompt: str | list[int]
    max_tokens: int
    stop: tuple[str, ...]
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextAnswer:
    """A completion. `finish_reason`: `stop`, `length`, or whatever a server might say."""

    text: str
    finish_reason: str | None = "stop"
    n_tokens: int = 0


Completer = Callable[[TextRequest], TextAnswer]


def text_completion(answer: TextAnswer, number: int, model: str) -> dict[str, Any]:
    """An answer as a text completion."""
    choice = {"index": 0, "text": answer.text, "logprobs": None, "finish_reason": answer.finish_reason}
    return {
        "id": f"cmpl-{number}",
        "object": "text_completion",
        "created": 0,
        "model": model,
        "choices": [choice],
        "usage": {"prompt_tokens": 0, "completion_tokens": answer.n_tokens, "total_tokens": answer.n_tokens},
    }


def unscripted(_: ChatRequest) -> ChatAnswer:
    """The script of a server that completes text alone. Raises LookupError."""
    raise LookupError("this server completes text; it has no script for chats")


class ScriptedServer:
    """Use with `async with`; `url` is then the api base. `requests` counts requests, `in_flight_most` the most at a time."""

    def __init__(
        self,
        script: Callable[[ChatRequest], ChatAnswer] = unscripted,
        *,
        completer: Completer | None = None,
        latency_s: float = 0.0,
        troubles: Sequence[Trouble] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        key: str | None = None,
    ) -> None:
        self.requests = 0
        self.in_flight_most = 0
        self.url = ""
        self._in_flight = 0
        self._script = script
        self._completer = completer
        self._latency_s = latency_s
        self._troubles = troubles
        self._host, self._port = host, port
        self._key = key
        self._runner: Any = None

    async def __aenter__(self) -> Self:
        try:
            from aiohttp import web
        except ImportError as error:
            raise SpecError(f"aiohttp is not installed; run: {install('tau2')}") from error
        app = web.Application(client_max_size=LARGEST_REQUEST)
        app.router.add_post("/v1/chat/completions", self._answer)
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_get("/v1/models", self._models)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, backlog=4096)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise StateError(
                f"cannot listen on {self._host}:{self._port}: {os.strerror(error.errno) if error.errno else error}; "
                "choose another port (--port 0 takes one that is free)"
            ) from error
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _models(self, _: Any) -> Any:
        from aiohttp import web

        return web.json_response({"object": "list", "data": [{"id": "scripted", "object": "model"}]})

    async def _answer(self, request: Any) -> Any:
        with self._counted() as number:
            return await self._send(request, self._decide(number, await request.read(), request))

    async def _complete(self, request: Any) -> Any:
        with self._counted() as number:
            content = await request.read()
            return await self._send(request, await asyncio.to_thread(self._decide_text, number, content, request))

    @contextmanager
    def _counted(self) -> Iterator[int]:
        """A request's number, while it is being answered."""
        self.requests += 1
        self._in_flight += 1
        self.in_flight_most = max(self.in_flight_most, self._in_flight)
        try:
            yield self.requests
        finally:
            self._in_flight -= 1

    def _refused(self, request: Any) -> Sent | None:
        if self._key is not None and request.headers.get("Authorization") != f"Bearer {self._key}":
            return TROUBLES["401"]({})
        return None

    def _decide(self, number: int, content: bytes, request: Any) -> Sent:
        if refused := self._refused(request):
            return refused
        try:
            body = json.loads(content)
            asked = ChatRequest(
                messages=body["messages"],
                tools=body.get("tools") or (),
                tool_choice=body.get("tool_choice"),
                seed=body.get("seed"),
            )
            model = body["model"]
        except (ValueError, KeyError, RecursionError, TypeError) as error:
            return _bad(error)
        return self._sent(number, asked, lambda: completion(self._script(asked), number, model))

    def _decide_text(self, number: int, content: bytes, request: Any) -> Sent:
        if refused := self._refused(request):
            return refused
        try:
            body = json.loads(content)
            stop = body.get("stop") or []
            asked = TextRequest(
                prompt=body["prompt"],
                max_tokens=int(body.get("max_tokens") or 16),
                stop=(stop,) if isinstance(stop, str) else tuple(stop),
                body=body,
            )
            model = body["model"]
        except (ValueError, KeyError, RecursionError, TypeError) as error:
            return _bad(error)
        completer = self._completer
        if completer is None:
            return Sent(body=json.dumps({"error": {"message": "this server completes no text"}}).encode(), status=404)
        chat = ChatRequest(messages=())  # for the troubles, which here can only depend on the number
        return self._sent(number, chat, lambda: text_completion(completer(asked), number, model))

    def _sent(self, number: int, asked: ChatRequest, answer: Callable[[], dict[str, Any]]) -> Sent:
        """The answer, or the trouble in its place."""
        try:
            good = answer()
        except LookupError as error:
            return Sent(body=json.dumps({"error": {"message": str(error)}}).encode(), status=404)
        for trouble in self._troubles:
            if trouble.when(number, asked):
                return TROUBLES[trouble.kind](good)
        return Sent(body=encode(good))

    async def _send(self, request: Any, sent: Sent) -> Any:
        from aiohttp import web

        if sent.hangs:
            await asyncio.Event().wait()
        if self._latency_s:
            await asyncio.sleep(self._latency_s)
        if not sent.missing and not sent.endless:
            return web.Response(
                body=sent.body, status=sent.status, headers=sent.headers, content_type="application/json"
            )
        response = web.StreamResponse(status=sent.status)
        if sent.missing:
            response.content_length = len(sent.body) + sent.missing
        await response.prepare(request)
        await response.write(sent.body)
        while sent.endless:
            await response.write(b" " * 65536)
        if request.transport is not None:
            request.transport.abort()
        return response


def _bad(error: Exception) -> Sent:
    return Sent(body=json.dumps({"error": {"message": f"bad request: {error}"}}).encode(), status=400)


@contextmanager
def serving(server: ScriptedServer) -> Iterator[ScriptedServer]:
    """The server for synchronous code: it runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    started, stop = threading.Event(), asyncio.Event()
    failed: list[BaseException] = []

    async def live() -> None:
        try:
            async with server:
                started.set()
                await stop.wait()
        except BaseException as error:  # noqa: BLE001
            failed.append(error)
            started.set()

    thread = threading.Thread(target=loop.run_until_complete, args=(live(),), daemon=True)
    thread.start()
    started.wait()
    if failed:
        raise failed[0]
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=10)
        loop.close()
