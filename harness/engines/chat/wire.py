"""OpenAI's chat completions as JSON: builds requests, parses and checks responses. Knows no transport."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from harness.core.chat import ChatAnswer, ChatCall, ChatRequest, ContextOverflow, EndpointError, TransientError, Usage
from harness.core.thoughts import apart

OVERFLOWS = (
    "context_length_exceeded",
    "context length",
    "context window",
    "maximum context",
    "maximum model length",
    "max_model_len",
    "prompt is too long",
    "input is too long",
    "longer than the maximum",
    "contextwindowexceeded",
    "context size",
    "context_size",
    "max_seq_len",
    "reduce the length of the messages",
    "`inputs` tokens",
    "input token count",
    "max_tokens must be at least 1",
    "context limit",
    "too long to fit",
    "too many input tokens",
    "too many tokens: ",
    "max_input_len",
    "maximum input length",
    "maximum prompt length",
    "exceeds max length",
    "exceeded model token limit",
    "range of input length",
    "`inputs` must have less than",
)
"""Parts of the messages by which endpoints report that a conversation is too long for the model."""


def body_of(model: str, request: ChatRequest, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON body of a request. `arguments` are the sampling options; the request's seed wins over theirs."""
    body: dict[str, Any] = {"model": model, "messages": list(request.messages), **arguments}
    if request.tools:
        body["tools"] = list(request.tools)
        body["tool_choice"] = request.tool_choice or "auto"
    if request.seed is not None:
        body["seed"] = request.seed
    return body


BROKEN_OFF = ("abort", "error")
"""How vLLM and others end an answer that they could not finish."""
OFF = ("none", "off", "no_think")
"""How a switch of a chat template turns thinking off, beside false."""
SWITCH = re.compile(r"(?!.*(clear|preserve|keep|history|previous|past))(?=.*(think|reason))", re.IGNORECASE)
"""Names of switches for thinking: `enable_thinking`, `reasoning_effort`; not those for thoughts of earlier turns."""
CHANNELS = ("<|channel|>", "<|channel>", "Here is my thought process")
"""Texts that open a thought other than the pairs of marks in core/thoughts.py."""
NOT_FINITE = "the answer has no finite log-prob: the weights hold NaN or infinity, or overflow in this dtype"
LEAST = -9999.0
"""The log-prob that vLLM reports for minus infinity."""


def check_logprobs(choice: Mapping[str, Any]) -> None:
    """Raises EndpointError for an answer with a token whose log-prob is not finite (a retry would give the same).

    An answer without log-probs passes.
    """
    found = choice.get("logprobs")
    if not isinstance(found, Mapping):
        return
    listed = found.get("content")
    values = [one.get("logprob") for one in listed] if isinstance(listed, list) else found.get("token_logprobs") or ()
    for value in values:
        if not isinstance(value, int | float) or not math.isfinite(value) or value <= LEAST:
            raise EndpointError(NOT_FINITE)


def redirected(status: int) -> EndpointError:
    """The error for a redirect, which is not followed: another server would answer, and the POST would become a GET."""
    return EndpointError(f"HTTP {status}: the endpoint sends us elsewhere; name the address that answers itself")


def failure(status: int, text: str, *, retry_after_s: float | None = None) -> EndpointError | ContextOverflow:
    """The error that an HTTP status with this text stands for."""
    if 300 <= status < 400:
        return redirected(status)
    said = " ".join(text.split())[:300]
    if "not json compliant" in said.lower():  # so vLLM says that a log-prob is NaN
        return EndpointError(f"{NOT_FINITE} (HTTP {status}: {said})")
    if status in (400, 413, 422) and any(sign in text.lower() for sign in OVERFLOWS):
        return ContextOverflow(said)
    if status in (408, 409, 425, 429) or status >= 500:
        return TransientError(f"HTTP {status}: {said}", retry_after_s=retry_after_s)
    return EndpointError(f"HTTP {status}: {said}")


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def usage_of(value: Any) -> Usage:
    """The tokens in a body's `usage`; what is missing counts as 0."""
    found = value if isinstance(value, Mapping) else {}
    return Usage(
        prompt_tokens=_count(found.get("prompt_tokens")), completion_tokens=_count(found.get("completion_tokens"))
    )


def _call(value: Any, number: int) -> ChatCall:
    function = value["function"]
    name, arguments = function["name"], function.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, str | None):
        raise TypeError("a tool call's name or arguments are no text")
    given = value.get("id")
    return ChatCall(
        id=given if isinstance(given, str) and given else f"call_{number}", name=name, arguments=arguments or ""
    )


def _text(content: Any) -> str | None:
    """The content; where it comes in parts, those that are text."""
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part.get("type") == "text")
    if not isinstance(content, str | None):
        raise TypeError("the content is no text")
    return content


def _reasoning(message: Mapping[str, Any]) -> str | None:
    """Reasoning in fields of its own: vLLM's `reasoning`, `reasoning_content` of many endpoints, parts of the content."""
    for key in ("reasoning_content", "reasoning", "thinking"):
        if isinstance(found := message.get(key), str) and found:
            return found
    parts = message.get("content")
    blocks = [*(message.get("thinking_blocks") or ()), *(parts if isinstance(parts, list) else ())]
    found = ""
    for block in blocks:
        if block.get("type") in ("thinking", "reasoning"):
            inner = block.get("thinking") or block.get("reasoning") or block.get("text") or ""
            found += inner if isinstance(inner, str) else "".join(str(part.get("text") or "") for part in inner)
    return found or None


def _tokens(choice: Mapping[str, Any]) -> str | None:
    """The tokens of an answer as one text, marks and all; None where the endpoint does not tell them."""
    found = choice.get("logprobs")
    listed = found.get("content") if isinstance(found, Mapping) else None
    return "".join(str(one.get("token") or "") for one in listed) if isinstance(listed, list) and listed else None


def _never_opened(choice: Mapping[str, Any]) -> bool:
    """Whether the tokens of an answer are there and show no thought: a parser that expects one then takes what is said for it."""
    text = _tokens(choice)
    if text is None or choice.get("finish_reason") != "stop":
        return False
    return apart(text).thought is None and not any(mark in text for mark in CHANNELS)


def _goes_on(choice: Mapping[str, Any], content: str) -> bool:
    """Whether a content goes on with the thought that its prompt opened. A parser that found its end leaves no mark of it: then the
    tokens tell, and without them an answer that came to its own end has left the thought."""
    if apart(content, opened=True).said is not None:
        return True
    text = _tokens(choice)
    return choice.get("finish_reason") == "length" if text is None else apart(text, opened=True).said is None


def thinks_as_usual(body: Mapping[str, Any]) -> bool:
    """Whether a request leaves thinking to the chat template: no switch for it is given and off."""
    given = body.get("chat_template_kwargs")
    switches = [value for name, value in given.items() if SWITCH.match(str(name))] if isinstance(given, Mapping) else []
    return not any(value is False or value in OFF for value in switches)


def _status(error: Mapping[str, Any]) -> int | None:
    """The HTTP status that an error names in a body of a good status; that of a conversation too long where its name says so."""
    code = error.get("code")
    number = int(code) if isinstance(code, int) or (isinstance(code, str) and code.isdecimal()) else 0
    if 400 <= number < 600:
        return number
    return 400 if any(sign in f"{code} {error.get('type')}".lower() for sign in OVERFLOWS) else None


def parse_completion(body: Any, *, opened: bool = False) -> ChatAnswer:
    """The answer in a body, with reasoning separated from content. `opened`: the prompt ended within a thought.

    Raises TransientError for a body that is no completion: cut off, an error, a stream; for an error with an HTTP status in its
    `code` the error of that status.
    """
    try:
        choice = body["choices"][0]
        message = choice["message"]
        if choice.get("finish_reason") in BROKEN_OFF:
            raise TransientError(f"the server broke its answer off ({choice['finish_reason']})")
        check_logprobs(choice)
        content, calls = _text(message.get("content")), message.get("tool_calls") or ()
        reasoning = _reasoning(message)
        if reasoning and not content and not calls and not opened and _never_opened(choice):
            content, reasoning = reasoning, None
        inside = opened and bool(content) and not reasoning and _goes_on(choice, content or "")
        cut = bool(calls) or choice.get("finish_reason") != "stop"
        thought, said = apart(content, opened=inside, cut=cut)
        return ChatAnswer(
            content=said,
            reasoning="\n\n".join(one for one in (reasoning, thought) if one) or None,
            written=None if said == content else content,
            tool_calls=tuple(_call(call, number) for number, call in enumerate(calls)),
            finish_reason=choice.get("finish_reason"),
            usage=usage_of(body.get("usage")),
        )
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        said = body.get("error") if isinstance(body, dict) else None
        if isinstance(said, Mapping) and (code := _status(said)) is not None:
            raise failure(code, f"{said.get('message')} {said.get('type') or ''} {said.get('code')}") from error
        what = f"an error: {str(said)[:300]}" if said else f"no chat completion ({type(error).__name__}: {error})"
        raise TransientError(f"the endpoint answered with {what}") from error
