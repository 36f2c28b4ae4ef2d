"""The ways in which an endpoint, or a model behind it, can misbehave, for ScriptedServer (server.py).

Pure: a trouble turns a good completion into what is sent instead. Knows no tasks.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.core.chat import ChatRequest

Completion = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A response. `missing`: bytes announced and not sent; `endless`: the body never ends; `hangs`: no response is ever sent."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    missing: int = 0
    endless: bool = False
    hangs: bool = False


def encode(completion: Completion) -> bytes:
    """A completion as it is sent."""
    return json.dumps(completion).encode()


def _error(status: int, message: str, **headers: str) -> Callable[[Completion], Sent]:
    body = json.dumps({"error": {"message": message, "code": status}}).encode()
    return lambda _: Sent(body=body, status=status, headers=headers)


def _text(content: str | None) -> Callable[[Completion], Sent]:
    return lambda good: Sent(body=encode(_with(good, {"role": "assistant", "content": content})))


def _calls(name: str, arguments: str, count: int = 1) -> Callable[[Completion], Sent]:
    calls = [
        {"id": f"c{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for number in range(count)
    ]
    return lambda good: Sent(body=encode(_with(good, {"role": "assistant", "content": None, "tool_calls": calls})))


def _with(good: Completion, message: dict[str, Any]) -> Completion:
    return {**good, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


DEEP = 100_000
TROUBLES: dict[str, Callable[[Completion], Sent]] = {
    "500": _error(500, "internal error"),
    "429": _error(429, "slow down", **{"Retry-After": "0"}),
    "401": _error(401, "wrong key"),
    "overflow": _error(400, "This model's maximum context length is 8 tokens (context_length_exceeded)"),
    "truncated": lambda good: Sent(body=encode(good)[:-20]),
    "lost": lambda good: Sent(body=encode(good)[:-20], missing=20),
    "html": lambda _: Sent(body=b"<html>bad gateway</html>"),
    "sse": lambda _: Sent(body=b'data: {"error": {"message": "engine died"}}\n\ndata: [DONE]\n\n'),
    "error in 200": lambda _: Sent(body=b'{"error": {"message": "engine died"}}'),
    "deep body": lambda _: Sent(body=b'{"choices": ' + b"[" * DEEP + b"]" * DEEP + b"}"),
    "hang": lambda _: Sent(hangs=True),
    "endless": lambda good: Sent(body=encode(good)[:-20], endless=True),
    "empty": _text(""),
    "null": _text(None),
    "huge text": _text("x" * 3_000_000),
    "control characters": _text("\x00\x1b[2J\x07\u202e\ud800"),
    "many calls": _calls("nothing", "{}", 10_000),
    "malformed": _calls("nothing", '{"a": '),
    "list for arguments": _calls("nothing", "[1, 2]"),
    "NaN": _calls("nothing", '{"a": NaN}'),
    "infinity": _calls("nothing", '{"a": 1e999}'),
    "deep": _calls("nothing", '{"a": ' + "[" * DEEP + "]" * DEEP + "}"),
    "bomb": _calls("calculate", '{"expression": "9**9**9"}'),
    "wrong types": _calls("get_user_details", '{"user_id": {"a": [null]}, "self": 1}'),
}
"""Name to what is sent in place of a good completion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Misbehave like this `when` (request number from 1, request) says so."""

    kind: str
    when: Callable[[int, ChatRequest], bool]

    @classmethod
    def every(cls, n: int, kind: str) -> Trouble:
        """Misbehave on every n-th request."""
        return cls(kind=kind, when=lambda number, _: number % n == 0)

    def __post_init__(self) -> None:
        if self.kind not in TROUBLES:
            raise ValueError(f"unknown trouble {self.kind!r}; known are {', '.join(TROUBLES)}")
