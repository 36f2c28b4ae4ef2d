"""Opens chat models by name: which transport, which address, which key. Opening sends no request.

`hosted_vllm/NAME`, and `openai/NAME` with an api base, are asked directly; every other name goes through litellm.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.core.chat import ChatModel
from harness.core.chat_config import ChatConfig
from harness.core.credential import check_address
from harness.core.errors import SpecError
from harness.engines.chat.retry import Backoff, RetryingChat

Transport = Literal["auto", "direct", "litellm"]
TRANSPORTS: tuple[Transport, ...] = ("auto", "direct", "litellm")
KEYS = {"hosted_vllm": ("HOSTED_VLLM_API_KEY",), "openai": ("OPENAI_API_KEY",)}
BASES = {"hosted_vllm": ("HOSTED_VLLM_API_BASE",), "openai": ("OPENAI_BASE_URL", "OPENAI_API_BASE")}
"""Environment variables, as litellm reads them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSettings:
    """Which model, and how it is asked. `timeout_s` is for one answer. The key is not part of what is printed."""

    model: str
    api_base: str | None = None
    api_key: str | None = field(default=None, repr=False)
    arguments: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 0.0})
    timeout_s: float = 600.0
    backoff: Backoff = field(default_factory=Backoff)
    transport: Transport = "auto"


def open_named(
    config: ChatConfig, *, timeout_s: float, backoff: Backoff | None = None, transport: Transport = "auto"
) -> ChatModel:
    """The model that a configuration names. Sends no request.

    Raises SpecError for a bad name or address, or a key that is not set.
    """
    return open_chat(
        ChatSettings(
            model=config.model,
            api_base=config.api_base,
            api_key=config.key(),
            arguments=config.args,
            timeout_s=timeout_s,
            backoff=backoff or Backoff(),
            transport=transport,
        )
    )


def _from_environment(names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := os.environ.get(name))), None)


def open_chat(settings: ChatSettings) -> ChatModel:
    """A chat model that retries. Raises SpecError for a name that no transport can be found for."""
    provider, _, model = settings.model.partition("/")
    base = settings.api_base or _from_environment(BASES.get(provider, ()))
    if base:
        try:
            check_address(base)
        except ValueError as error:
            raise SpecError(f"the api base of {settings.model} {error}") from None
    if not settings.model or settings.model.isspace():
        raise SpecError("a model needs a name, such as hosted_vllm/my-model")
    if settings.transport not in TRANSPORTS:
        raise SpecError(f"`transport` {settings.transport!r} is unknown; it takes {', '.join(TRANSPORTS)}")
    if provider == "hosted_vllm" and not base:
        raise SpecError(
            f"{settings.model} needs the address of its server: give an api base such as http://127.0.0.1:8000/v1 "
            "(or set HOSTED_VLLM_API_BASE)"
        )
    direct = bool(provider in KEYS and model and base)
    if settings.transport == "direct" and not direct:
        raise SpecError(
            f"{settings.model} cannot be asked directly; name it hosted_vllm/NAME or openai/NAME and its base"
        )
    if direct and settings.transport != "litellm":
        return RetryingChat(_direct(settings, provider, model, base or ""), settings.backoff)
    from harness.engines.chat.litellm_chat import LitellmChat

    chat = LitellmChat(
        name=settings.model,
        api_base=base,
        api_key=settings.api_key,
        arguments=settings.arguments,
        timeout_s=settings.timeout_s,
    )
    chat.open()
    return RetryingChat(chat, settings.backoff)


def _direct(settings: ChatSettings, provider: str, model: str, base: str) -> ChatModel:
    from harness.engines.chat.http_chat import HttpChat

    if not base.startswith(("http://", "https://")):
        raise SpecError(f"the api base {base!r} is no address; it begins with http:// or https://")
    return HttpChat(
        name=settings.model,
        model=model,
        api_base=base,
        api_key=settings.api_key or _from_environment(KEYS[provider]),
        arguments=settings.arguments,
        timeout_s=settings.timeout_s,
    )
