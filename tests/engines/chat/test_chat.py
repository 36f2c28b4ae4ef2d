"""Chat with a real HTTP endpoint: what is sent, what is retried, whose fault it is, and that keys stay secret."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import random
import socket
from typing import Any

import pytest

from harness.core.chat import ChatAnswer, ChatCall, ChatRequest, ContextOverflow, EndpointError, TransientError, Usage
from harness.core.endpoint import Endpoint
from harness.core.errors import SpecError, StateError
from harness.engines.chat.open import ChatSettings, open_chat
from harness.engines.chat.retry import Backoff, RetryingChat
from harness.engines.chat.served import ServedChat
from harness.engines.chat.wire import body_of, failure, parse_completion
from harness.engines.scripted.chat import ScriptedChat, calling
from harness.engines.scripted.server import ScriptedServer, serving
from harness.engines.scripted.trouble import TROUBLES, Trouble

pytestmark = pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None, reason="aiohttp is not installed")
QUICK = Backoff(attempts=3, first_s=0.01)
REQUEST = ChatRequest(messages=[{"role": "user", "content": "Hello"}])


def ask(base: str, request: ChatRequest = REQUEST, **settings: Any) -> ChatAnswer:
    """One answer."""

    async def once() -> ChatAnswer:
        chat = open_chat(ChatSettings(**{"model": "hosted_vllm/m", "api_base": base, "backoff": QUICK, **settings}))
        try:
            return await chat.answer(request)
        finally:
            await chat.close()

    return asyncio.run(once())


def echo(request: ChatRequest) -> ChatAnswer:
    """Says what it was asked, and calls the first tool."""
    if request.tools:
        return calling((request.tools[0]["function"]["name"], {"seed": request.seed, "choice": request.tool_choice}))
    return ChatAnswer(content=str(request.messages), usage=Usage(prompt_tokens=3, completion_tokens=4))


TOOL = {"type": "function", "function": {"name": "look", "description": "d", "parameters": {"type": "object"}}}
TRANSPORTS = ["direct", "litellm"] if importlib.util.find_spec("litellm") else ["direct"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_both_transports_say_and_hear_the_same(transport: str) -> None:
    with serving(ScriptedServer(echo)) as server:
        answer = ask(server.url, transport=transport)
        assert answer.content == str(REQUEST.messages) and not answer.tool_calls
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.cost) == (3, 4, None)
        asked = ChatRequest(messages=REQUEST.messages, tools=[TOOL], tool_choice="required", seed=7)
        called = ask(server.url, asked, transport=transport).tool_calls
        assert [(call.name, call.arguments) for call in called] == [("look", '{"seed": 7, "choice": "required"}')]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_both_transports_blame_the_same(transport: str) -> None:
    with serving(ScriptedServer(echo, troubles=[Trouble.every(1, "overflow")])) as server:
        with pytest.raises(ContextOverflow):
            ask(server.url, transport=transport)
        assert server.requests == 1
    with serving(ScriptedServer(echo, troubles=[Trouble.every(1, "500")])) as server:
        with pytest.raises(EndpointError, match=r"500.*\(3 attempts\)"):
            ask(server.url, transport=transport)
        assert server.requests == 3


@pytest.mark.parametrize("kind", ["500", "429", "truncated", "lost", "html", "sse", "error in 200", "deep body"])
def test_what_may_pass_is_tried_again(kind: str) -> None:
    troubles = [Trouble(kind=kind, when=lambda number, _: number < 3)]
    with serving(ScriptedServer(echo, troubles=troubles)) as server:
        assert ask(server.url).content
        assert server.requests == 3


def test_a_hang_is_cut_off_and_tried_again() -> None:
    with serving(ScriptedServer(echo, troubles=[Trouble(kind="hang", when=lambda number, _: number == 1)])) as server:
        assert ask(server.url, timeout_s=0.2).content
    with (
        serving(ScriptedServer(echo, troubles=[Trouble.every(1, "hang")])) as server,
        pytest.raises(EndpointError, match=r"no answer within 0.1 s \(3 attempts\)"),
    ):
        ask(server.url, timeout_s=0.1)


def test_an_answer_that_never_ends_is_cut_off() -> None:
    with (
        serving(ScriptedServer(echo, troubles=[Trouble.every(1, "endless")])) as server,
        pytest.raises(ContextOverflow, match="longer than 16 MiB"),
    ):
        ask(server.url)


def test_nobody_listening_is_the_endpoints_fault() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(
        EndpointError, match=rf"nothing answers at 127.0.0.1:{port} \(Connection refused\); .* running.*3 attempts"
    ):
        ask(f"http://127.0.0.1:{port}/v1")


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        async def start() -> None:
            async with ScriptedServer(echo, port=port):
                pass

        with pytest.raises(StateError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use; .*--port 0"):
            asyncio.run(start())


def test_a_wrong_key_is_not_tried_again_and_the_key_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTED_VLLM_API_KEY", "from-the-environment")
    with serving(ScriptedServer(echo, key="from-the-environment")) as server:
        assert ask(server.url).content
        with pytest.raises(EndpointError, match="HTTP 401") as caught:
            ask(server.url, api_key="sk-secret")
        assert server.requests == 2 and "sk-secret" not in str(caught.value)
    assert "sk-secret" not in repr(ChatSettings(model="m", api_key="sk-secret"))


@pytest.mark.parametrize("name", ["", "hosted_vllm/m"])
def test_a_model_that_cannot_be_found_is_one_clear_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOSTED_VLLM_API_BASE", raising=False)
    with pytest.raises(SpecError):
        open_chat(ChatSettings(model=name))
    with pytest.raises(SpecError, match="is no address"):
        open_chat(ChatSettings(model="hosted_vllm/m", api_base="localhost:8000"))
    with pytest.raises(SpecError, match="cannot be asked directly"):
        open_chat(ChatSettings(model="anthropic/m", transport="direct"))


def test_the_pause_grows_to_a_limit_and_grants_what_is_asked_for() -> None:
    backoff, dice = Backoff(first_s=1, longest_s=8), random.Random(0)
    for failures, most in ((1, 1), (2, 2), (3, 4), (4, 8), (9, 8)):
        assert most / 2 <= backoff.pause_s(failures, None, dice) <= most
    assert backoff.pause_s(1, 20.0, dice) == 20.0 and backoff.pause_s(1, 9e9, dice) == 32.0


def test_only_what_may_pass_is_retried() -> None:
    inner = ScriptedChat([TransientError("x"), EndpointError("final"), "never"])
    with pytest.raises(EndpointError, match="final"):
        asyncio.run(RetryingChat(inner, QUICK).answer(REQUEST))
    assert len(inner.requests) == 2


@pytest.mark.parametrize(
    "body",
    [None, [], {}, {"choices": []}, {"choices": [{}]}, {"choices": [{"message": None}]}, {"choices": [{"message": {"content": 1}}]},
     {"choices": [{"message": {"tool_calls": [{}]}}]}, {"choices": [{"message": {"tool_calls": [{"function": {"name": 1}}]}}]}],
)  # fmt: skip
def test_a_body_that_is_no_completion_is_the_endpoints_fault(body: Any) -> None:
    with pytest.raises(TransientError):
        parse_completion(body)


def test_content_in_parts_is_put_together() -> None:
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert parse_completion({"choices": [{"message": {"content": parts}}]}).content == "ab"


def test_a_key_that_an_endpoint_repeats_is_not_shown() -> None:
    def repeat(request: ChatRequest) -> ChatAnswer:
        raise LookupError("who is sk-secret?")

    with (
        serving(ScriptedServer(repeat)) as server,
        pytest.raises(EndpointError, match=r"who is \*\*\*\?"),
    ):
        ask(server.url, api_key="sk-secret")


def told(transport: str, reply: bytes, key: str) -> tuple[str, int]:
    """What an endpoint's reply becomes for the user, and how many requests it took."""
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        writer.close()

    async def once() -> str:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        base = "http://{}:{}/v1".format(*server.sockets[0].getsockname())
        settings = ChatSettings(
            model="hosted_vllm/m",
            api_base=base,
            api_key=key,
            backoff=QUICK,
            transport="direct" if transport == "direct" else "litellm",
        )
        chat = open_chat(settings)
        try:
            return f"no error: {await chat.answer(REQUEST)}"
        except EndpointError as error:
            return str(error)
        finally:
            await chat.close()
            server.close()

    return asyncio.run(once()), asked


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_error_and_is_not_followed(transport: str, status: int) -> None:
    key = "sk-0123456789abcdef"
    reply = f"HTTP/1.1 {status} Moved\r\nLocation: /v1/elsewhere?{key}\r\nContent-Length: 0\r\n\r\n"
    said, asked = told(transport, reply.encode(), key)
    assert f"HTTP {status}: the endpoint sends us elsewhere" in said and asked == 1 and "0123456789" not in said
    with serving(ScriptedServer(echo)) as server:
        assert ask(server.url, transport=transport).content, "another client is not disturbed"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_key_that_comes_back_in_a_good_answer_is_not_shown(transport: str) -> None:
    key = "sk-0123456789abcdef"
    written = [key, base64.b64encode(f"Bearer {key}".encode()).decode(), key.encode().hex(), key[:14]]

    def repeat(request: ChatRequest) -> ChatAnswer:
        return ChatAnswer(
            content=" ".join(written), tool_calls=(ChatCall(id="c", name="look", arguments=f'{{"a": "{key}"}}'),)
        )

    with serving(ScriptedServer(repeat)) as server:
        said = repr(ask(server.url, api_key=key, transport=transport))
    assert "***" in said and not any(way[2:14] in said for way in written)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_key_in_an_error_of_a_good_status_is_not_shown(transport: str) -> None:
    key = "sk-0123456789abcdef"

    body = f'{{"error": {{"message": "bad key {key}"}}}}'
    head = (
        f"HTTP/1.1 200 {key}\r\nX-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    said, _ = told(transport, (head + body).encode(), key)
    assert "no error" not in said and "0123456789" not in said


def test_calls_without_an_id_get_one() -> None:
    call = {"function": {"name": "f", "arguments": None}}
    answer = parse_completion({"choices": [{"message": {"content": None, "tool_calls": [call, call]}}]})
    assert [(one.id, one.arguments) for one in answer.tool_calls] == [("call_0", ""), ("call_1", "")]


@pytest.mark.parametrize(("status", "kind"), [(429, TransientError), (503, TransientError), (404, EndpointError)])
def test_a_status_says_whose_fault_it_is(status: int, kind: type[Exception]) -> None:
    assert type(failure(status, "x")) is kind
    assert isinstance(failure(400, "maximum context length"), ContextOverflow)
    assert isinstance(failure(500, "maximum context length"), TransientError)


@pytest.mark.parametrize(("own_length", "kind"), [(4096, EndpointError), (None, ContextOverflow)])
def test_an_overflow_of_our_own_setting_is_not_the_models(own_length: int | None, kind: type[Exception]) -> None:
    with serving(ScriptedServer(echo, troubles=[Trouble.every(1, "overflow")])) as server:
        where = Endpoint(
            api_base=server.url, model="m", how="external", max_model_len=64, own_length=own_length, logprobs=True
        )

        async def once() -> None:
            chat = ServedChat(lambda: where, name="m", arguments={}, timeout_s=10)
            try:
                await chat.answer(REQUEST)
            finally:
                await chat.close()

        with pytest.raises(kind) as caught:
            asyncio.run(once())
    assert ("a setting of the server's (serve.max_model_len)" in str(caught.value)) is (own_length is not None)


@pytest.mark.parametrize("value", [None, "nan", -9999.0])
def test_an_answer_with_a_log_prob_that_is_not_finite_has_failed(value: Any) -> None:
    number = float(value) if value == "nan" else value
    choice = {"message": {"content": ""}, "logprobs": {"content": [{"logprob": -0.1}, {"logprob": number}]}}
    with pytest.raises(EndpointError, match="no finite log-prob"):
        parse_completion({"choices": [choice]})
    choice["logprobs"] = {"content": [{"logprob": -0.1}]}
    assert parse_completion({"choices": [choice]}).content == ""
    assert isinstance(failure(400, "Out of range float values are not JSON compliant: nan"), EndpointError)


def test_the_requests_seed_wins_and_the_tag_is_not_sent() -> None:
    body = body_of("m", ChatRequest(messages=(), seed=3, tag="secret task"), {"temperature": 0.0, "seed": 1})
    assert body == {"model": "m", "messages": [], "temperature": 0.0, "seed": 3}


def test_every_trouble_can_be_asked_for() -> None:
    for kind in TROUBLES:
        Trouble.every(2, kind)
    with pytest.raises(ValueError, match="unknown trouble 'x'"):
        Trouble.every(1, "x")


@pytest.mark.parametrize(
    "said",
    [
        "This model's maximum context length is 8 tokens. However, you requested 9 tokens",
        "The decoder prompt (length 9) is longer than the maximum model length of 8",
        "max_tokens must be at least 1, got -3.",
        "litellm.ContextWindowExceededError: litellm.BadRequestError",
        "the request exceeds the available context size, try increasing it",
        "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 100 `max_new_tokens`",
        "The input token count (9) exceeds the maximum number of tokens allowed (8)",
        "Please reduce the length of the messages or completion.",
        "Prompt length exceeds max_seq_len",
        "The prompt (total length 9) is too long to fit into the model (context length 8)",
        "Prompt length (9) exceeds maximum input length (8). Set max_input_len to a greater value",
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000",
        "Invalid request: Your request exceeded model token limit: 8192",
        "Range of input length should be [1, 30720]",
        "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000",
        "too many tokens: total number of tokens in the prompt cannot exceed 4081",
        "Prompt exceeds max length",
    ],
)
def test_an_overflow_is_one_in_the_words_of_every_endpoint(said: str) -> None:
    assert isinstance(failure(400, said), ContextOverflow)
    with pytest.raises(ContextOverflow):
        parse_completion({"error": {"code": 400, "message": said}})
    assert isinstance(failure(400, "max_tokens is too large"), EndpointError)


def test_an_error_in_a_body_is_what_its_status_says() -> None:
    with pytest.raises(TransientError):
        parse_completion({"error": {"code": 503, "message": "later"}})
    with pytest.raises(EndpointError, match="401") as found:
        parse_completion({"error": {"code": 401, "message": "no such key"}})
    assert not isinstance(found.value, TransientError)
    with pytest.raises(EndpointError, match="401") as found:
        parse_completion({"error": {"code": "401", "message": "no such key"}})
    assert not isinstance(found.value, TransientError)
    for named in ({"code": "context_length_exceeded"}, {"code": None, "type": "exceed_context_size_error"}):
        with pytest.raises(ContextOverflow):
            parse_completion({"error": {"message": "9 tokens, where 8 are", **named}})


@pytest.mark.parametrize("how", ["abort", "error"])
def test_an_answer_that_was_broken_off_is_asked_for_again(how: str) -> None:
    with pytest.raises(TransientError, match=f"broke its answer off .{how}"):
        parse_completion({"choices": [{"finish_reason": how, "message": {"content": "half of"}}]})
