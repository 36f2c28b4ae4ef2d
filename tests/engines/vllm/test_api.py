"""What a server answers to our questions: redirects are errors, and the key is in nothing that is handed on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from harness.core.errors import EngineError
from harness.engines.vllm.api import Api, RefusedError

KEY = "key-0123456789abcdef"


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[Api]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Api(f"http://127.0.0.1:{server.server_address[1]}", api_key=KEY)
    finally:
        server.shutdown()
        server.server_close()


def say(handler: BaseHTTPRequestHandler, status: int, body: str, **headers: str) -> None:
    content = body.encode()
    handler.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(content))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    paths: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        paths.append(handler.path)
        if handler.path == "/health":
            say(handler, status, "", Location="/there")
        else:
            say(handler, 200, "{}")

    with answering(answer) as api, pytest.raises(RefusedError, match="sends us elsewhere"):
        api.check_health(timeout_s=5)
    assert paths == ["/health"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, f'{{"error": {{"message": "{"x" * 290} {KEY}"}}}}'),
        (500, KEY),
        (200, f'{{"data": "{KEY}"}}'),
        (200, KEY.encode().hex()),
    ],
)
def test_the_key_is_in_no_error(status: int, body: str) -> None:
    with answering(lambda handler: say(handler, status, body)) as api, pytest.raises(EngineError) as caught:
        api.models()
    assert KEY[:8] not in str(caught.value)


def test_the_key_is_in_no_model_name() -> None:
    with answering(lambda handler: say(handler, 200, f'{{"data": [{{"id": "m-{KEY}"}}]}}')) as api:
        assert api.models() == [{"id": "m-***"}]


def test_the_key_in_a_broken_status_line_is_not_shown() -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(f"{KEY}\r\n\r\n".encode())

    with answering(answer) as api, pytest.raises(EngineError) as caught:
        api.models()
    assert KEY[:8] not in str(caught.value) and "***" in str(caught.value)
