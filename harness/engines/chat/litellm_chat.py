"""Chat through litellm: every provider it knows, with its prices. The only module that imports litellm.

One attempt per request: retry.py asks again. Importing litellm takes seconds, so it waits for the first request.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from harness.core.chat import ChatAnswer, ChatRequest, ContextOverflow, EndpointError, TransientError, Usage
from harness.core.errors import SpecError
from harness.engines.chat.wire import body_of, failure, parse_completion


@cache
def _litellm() -> Any:
    # Otherwise importing it asks the network for today's prices, and waits where there is none.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        import litellm
    except ImportError as error:
        raise SpecError(
            "litellm is not installed, and only hosted_vllm/NAME and openai/NAME with an api base go without; "
            "run: pip install 'mixture-harness[tau2]'"
        ) from error
    litellm.drop_params = True
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    return litellm


class LitellmChat:
    """A model by litellm's name for it. The key is handed on and never shown."""

    def __init__(
        self,
        *,
        name: str,
        api_base: str | None,
        api_key: str | None,
        arguments: Mapping[str, Any],
        timeout_s: float,
    ) -> None:
        self.name = name
        self._where = {"api_base": api_base, "api_key": api_key}
        self._arguments = dict(arguments)
        self._timeout_s = timeout_s

    def open(self) -> None:
        """Import litellm now. Raises SpecError where it is missing."""
        _litellm()

    async def answer(self, request: ChatRequest) -> ChatAnswer:
        """One answer, one attempt. Raises TransientError, EndpointError or ContextOverflow."""
        litellm = _litellm()
        body = {**body_of(self.name, request, self._arguments), **_without_mcp()}
        try:
            response = await asyncio.wait_for(
                litellm.acompletion(**body, **self._where, timeout=self._timeout_s, num_retries=0, max_retries=0),
                self._timeout_s + 5,
            )
        except TimeoutError as error:
            raise TransientError(f"no answer within {self._timeout_s:g} s") from error
        except litellm.ContextWindowExceededError as error:
            raise ContextOverflow(self._plain(error)) from error
        except Exception as error:  # noqa: BLE001
            # litellm raises dozens of kinds; the status they carry tells them apart.
            raise self._failure(error) from None
        answer = parse_completion(response.model_dump())
        return ChatAnswer(
            content=answer.content,
            tool_calls=answer.tool_calls,
            finish_reason=answer.finish_reason,
            usage=Usage(
                prompt_tokens=answer.usage.prompt_tokens,
                completion_tokens=answer.usage.completion_tokens,
                cost=_cost(response),
            ),
        )

    def _plain(self, error: Exception) -> str:
        """The error in one line, without the key should an endpoint have repeated it."""
        text = f"{type(error).__name__}: {error}"
        key = self._where["api_key"]
        return (text.replace(key, "***") if key else text)[:400]

    def _failure(self, error: Exception) -> EndpointError | ContextOverflow:
        status = getattr(error, "status_code", None)
        if isinstance(status, int) and status >= 400:
            return failure(status, self._plain(error))
        return TransientError(self._plain(error))

    async def close(self) -> None:
        """Close litellm's connections."""
        closing = getattr(_litellm(), "close_litellm_async_clients", None)
        if closing is not None:
            await closing()


@cache
def _without_mcp() -> dict[str, bool]:
    """litellm (1.106) imports `mcp` for every request with tools, and fails where it is absent, unless told not to."""
    return {} if importlib.util.find_spec("mcp") else {"_skip_mcp_handler": True}


def _cost(response: Any) -> float | None:
    """US dollars by litellm's price list; null for a model that is not in it."""
    found = getattr(response, "_hidden_params", {}).get("response_cost")
    return float(found) if isinstance(found, int | float) and found > 0 else None
