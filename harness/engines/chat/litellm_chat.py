"""Chat through litellm: every provider it knows, with its prices. The only module that imports litellm.

One attempt per request: retry.py asks again. Importing litellm takes seconds, so it waits for the first request.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from harness.core.chat import ChatAnswer, ChatRequest, ContextOverflow, EndpointError, TransientError
from harness.core.errors import SpecError
from harness.core.extras import install
from harness.core.secret import hide, hide_in
from harness.engines.chat.wire import body_of, failure, parse_completion, redirected

SECRETS = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")
"""Suffixes of environment variables whose values are secret."""


@cache
def _litellm() -> Any:
    # Otherwise importing it downloads today's prices, and waits for a timeout where there is no network.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        import litellm
    except ImportError as error:
        raise SpecError(
            "litellm is not installed, and only hosted_vllm/NAME and openai/NAME with an api base go without; "
            f"run: {install('tau2')}"
        ) from error
    litellm.drop_params = True
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    return litellm


class LitellmChat:
    """A model by litellm's name for it. The key is passed on and never shown."""

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
        self._session: Any = None

    def open(self) -> None:
        """Import litellm now. Raises SpecError where it is missing, or does not know whose model the name is."""
        litellm = _litellm()
        try:
            litellm.get_llm_provider(model=self.name, **self._where)
        except litellm.BadRequestError as error:
            raise SpecError(
                f"litellm does not know whose model {self.name!r} is; write PROVIDER/NAME as it does, such as openai/NAME, or "
                "hosted_vllm/NAME with the address of its server"
            ) from error

    async def answer(self, request: ChatRequest) -> ChatAnswer:
        """One answer, one attempt. Raises TransientError, EndpointError or ContextOverflow."""
        litellm = _litellm()
        self._session = self._session or _session()
        body = {**body_of(self.name, request, self._arguments), **_without_mcp()}
        try:
            response = await asyncio.wait_for(
                litellm.acompletion(
                    **body,
                    **self._where,
                    timeout=self._timeout_s,
                    num_retries=0,
                    max_retries=0,
                    shared_session=self._session,
                ),
                self._timeout_s + 5,
            )
        except TimeoutError as error:
            raise TransientError(f"no answer within {self._timeout_s:g} s") from error
        except litellm.ContextWindowExceededError as error:
            raise ContextOverflow(self._plain(error)) from error
        except Exception as error:  # noqa: BLE001
            # litellm raises dozens of kinds; the status they carry tells them apart.
            raise self._failure(error) from None
        answer = parse_completion(hide_in(response.model_dump(), self._keys()))
        return replace(answer, usage=replace(answer.usage, cost=_cost(response)))

    def _plain(self, error: Exception) -> str:
        """The error in one line, without keys that an endpoint may have echoed."""
        return hide(f"{type(error).__name__}: {error}", self._keys())[:400]

    def _keys(self) -> list[str]:
        """What may not be shown: the key that was given, and those that litellm finds in the environment by itself."""
        given = self._where["api_key"]
        found = [value for name, value in os.environ.items() if name.upper().endswith(SECRETS)]
        return [key for key in (given, *found) if key]

    def _failure(self, error: Exception) -> EndpointError | ContextOverflow:
        if (moved := _redirect(error)) is not None:
            return redirected(moved)
        status = getattr(error, "status_code", None)
        if isinstance(status, int) and status >= 400:
            return failure(status, self._plain(error))
        return TransientError(self._plain(error))

    async def close(self) -> None:
        """Close litellm's connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        clients = getattr(_litellm(), "in_memory_llm_clients_cache", None)
        if clients is not None:
            clients.flush_cache()  # they hold on to the session
        closing = getattr(_litellm(), "close_litellm_async_clients", None)
        if closing is not None:
            await closing()


class _RedirectError(Exception):
    """The endpoint answered with a redirect."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


def _session() -> Any:
    """The connections for litellm to use. Its own would follow a redirect, turning the POST into a GET to another server."""
    import aiohttp

    async def refuse_redirects(response: Any) -> None:
        if 300 <= response.status < 400:
            raise _RedirectError(response.status)

    return aiohttp.ClientSession(raise_for_status=refuse_redirects)


def _redirect(error: BaseException | None) -> int | None:
    """The status of the redirect that an error comes from."""
    while error is not None:
        if isinstance(error, _RedirectError):
            return error.status
        error = error.__cause__ or error.__context__
    return None


@cache
def _without_mcp() -> dict[str, bool]:
    """litellm (1.106) imports `mcp` for every request with tools, and fails where it is absent, unless told not to."""
    return {} if importlib.util.find_spec("mcp") else {"_skip_mcp_handler": True}


def _cost(response: Any) -> float | None:
    """US dollars by litellm's price list; None for a model that is not in it."""
    found = getattr(response, "_hidden_params", {}).get("response_cost")
    return float(found) if isinstance(found, int | float) and found > 0 else None
