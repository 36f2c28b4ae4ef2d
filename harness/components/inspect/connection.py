"""Chat completions of an endpoint for Inspect: one request body in, one response body out, typed errors. Imports no Inspect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from harness.core.chat import ContextOverflow, EndpointError, TransientError
from harness.core.endpoint import Endpoint
from harness.core.errors import HarnessError


class Connection(Protocol):
    """Where a model answers."""

    async def ask(self, body: Mapping[str, Any], failures: list[str]) -> dict[str, Any]:
        """The completion; the message of each failed attempt is appended to `failures`.

        Raises EndpointError, ContextOverflow, or HarnessError where the endpoint is gone for good.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class ServedConnection:
    """The checkpoint that is measured. After a failed request `endpoint` is called again, which restarts a server that died.

    `broken`: the error that `endpoint` raised, after which every request raises it.
    """

    def __init__(self, endpoint: Callable[[], Endpoint], *, timeout_s: float, attempts: int) -> None:
        from harness.engines.chat.session import Session

        self.broken: HarnessError | None = None
        self._endpoint, self._attempts = endpoint, attempts
        self._session = Session(timeout_s=timeout_s)
        self._where: Endpoint | None = None
        self._finding = asyncio.Lock()

    async def ask(self, body: Mapping[str, Any], failures: list[str]) -> dict[str, Any]:
        """The completion, asked for again after a failure that may pass."""
        from harness.engines.chat.retry import OF_OUR_SERVER, retried

        return await retried(lambda: self._once(body, failures), replace(OF_OUR_SERVER, attempts=self._attempts))

    async def _once(self, body: Mapping[str, Any], failures: list[str]) -> dict[str, Any]:
        where = self._where or await self._find()
        wants = {"logprobs": True} if where.logprobs and not body.get("logprobs") else {}
        try:
            whole = {**body, **wants, "model": where.model}
            found = await _post(self._session, where.api_base, whole, where.api_key, opened=where.opens_thought)
        except ContextOverflow as error:
            if where.own_length is not None:
                raise EndpointError(
                    f"the conversation does not fit {where.max_model_len} tokens, a setting of the server's "
                    f"(serve.max_model_len), where the model's own context has {where.own_length}; raise it ({error})"
                ) from error
            raise
        except TransientError as error:
            failures.append(str(error))
            await self._find()
            raise
        if wants:
            for choice in found["choices"]:
                choice["logprobs"] = None
        return found

    async def _find(self) -> Endpoint:
        from harness.engines.chat.off_loop import off_loop

        async with self._finding:
            if self.broken is not None:
                raise self.broken
            try:
                self._where = await off_loop(self._endpoint)
            except HarnessError as error:
                self.broken = error
                raise
            return self._where

    async def close(self) -> None:
        """Give back the connections."""
        await self._session.close()


class FixedConnection:
    """A model at an address of its own: one that plays a role."""

    def __init__(self, *, model: str, api_base: str, api_key: str | None, timeout_s: float, attempts: int) -> None:
        from harness.engines.chat.session import Session

        self._model, self._api_base, self._api_key = model, api_base, api_key
        self._attempts = attempts
        self._session = Session(timeout_s=timeout_s)

    async def ask(self, body: Mapping[str, Any], failures: list[str]) -> dict[str, Any]:
        """The completion, asked for again after a failure that may pass."""
        from harness.engines.chat.retry import Backoff, retried

        return await retried(
            lambda: self._once({**body, "model": self._model}, failures), Backoff(attempts=self._attempts)
        )

    async def _once(self, body: Mapping[str, Any], failures: list[str]) -> dict[str, Any]:
        try:
            return await _post(self._session, self._api_base, body, self._api_key)
        except TransientError as error:
            failures.append(str(error))
            raise

    async def close(self) -> None:
        """Give back the connections."""
        await self._session.close()


async def _post(
    session: Any, api_base: str, body: Mapping[str, Any], api_key: str | None, *, opened: bool = False
) -> dict[str, Any]:
    """One attempt. A prompt that fits and whose answer's limit does not is asked again with what room there is."""
    from harness.engines.chat.wire import parse_completion, thinks_as_usual

    url = f"{api_base.rstrip('/')}/chat/completions"
    try:
        found = await session.post(url, body, api_key=api_key)
    except ContextOverflow:
        limits = [name for name in ("max_tokens", "max_completion_tokens") if name in body]
        if not limits:
            raise
        found = await session.post(url, {k: v for k, v in body.items() if k not in limits}, api_key=api_key)
    parse_completion(found)  # raises for what is no completion
    return _regular(found, opened=opened and thinks_as_usual(body))


OURS = ("role", "content", "tool_calls", "reasoning", "reasoning_content", "thinking", "thinking_blocks")
"""Keys of a message that `_regular` sets itself."""


def _regular(found: Mapping[str, Any], *, opened: bool) -> dict[str, Any]:
    """A completion in the form of OpenAI's client, whatever an endpoint leaves out or writes differently.

    Content in parts, calls without an id, usage without a sum. Reasoning is separated from the content in every form that it may
    have, as for other components.
    """
    from harness.engines.chat.wire import parse_completion

    choices = []
    for number, choice in enumerate(found["choices"]):
        answer = parse_completion({**found, "choices": [choice]}, opened=opened)
        message = {key: value for key, value in choice["message"].items() if key not in OURS}
        message |= {"role": "assistant", "content": answer.content}
        if answer.reasoning is not None:
            message["reasoning_content"] = answer.reasoning
        if answer.tool_calls:
            message["tool_calls"] = [call.wire for call in answer.tool_calls]
        finish = choice.get("finish_reason") or ("tool_calls" if answer.tool_calls else "stop")
        choices.append({**choice, "index": number, "finish_reason": finish, "message": message})
    whole = {"id": "", "created": 0, "model": "", "object": "chat.completion"}
    return {**whole, **{k: v for k, v in found.items() if v is not None}, "choices": choices, "usage": _usage(found)}


def _usage(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """Token counts, each a number; None where the endpoint reports none."""
    from harness.engines.chat.wire import usage_of

    told = found.get("usage")
    if not isinstance(told, Mapping):
        return None
    usage = usage_of(told)
    total = told.get("total_tokens")
    if not isinstance(total, int):
        total = usage.prompt_tokens + usage.completion_tokens
    details = {
        name: {key: value for key, value in part.items() if isinstance(value, int)}
        for name, part in told.items()
        if name.endswith("_details") and isinstance(part, Mapping)
    }
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": total,
        **details,
    }
