"""The HTTP endpoints of a vLLM server that are used: health, models, log-probs, adapters, weights. Blocking, stdlib only.

The API key is sent and never shown: it is masked in everything that the server answers.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from harness.core.errors import EngineError
from harness.core.secret import hide, hide_in


class NoAnswerError(EngineError):
    """The server could not be reached, or closed the connection."""


class RefusedError(EngineError):
    """The server answered with an HTTP status of an error or a redirect."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"HTTP {status}: {said}")
        self.status = status
        self.said = said


class NotFiniteError(EngineError):
    """The model's log-probabilities are NaN or infinite."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Treats a redirect as an error instead of asking another server."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None: the redirect is not followed."""


class Api:
    """A server at `root` (http://host:port, without /v1). Methods raise EngineError, with a class of it where that is named."""

    def __init__(self, root: str, *, api_key: str | None = None) -> None:
        self.root = root.rstrip("/")
        self._api_key = api_key
        host = urllib.parse.urlsplit(self.root).hostname or ""
        # Proxies of the environment must not be used for servers on this machine.
        local = host in ("localhost", "::1") or host.startswith("127.")
        handlers = [urllib.request.ProxyHandler({})] if local else []
        self._opener = urllib.request.build_opener(_NoRedirects, *handlers)

    def healthy(self, *, timeout_s: float = 5.0) -> bool:
        """Whether /health answers with status 200."""
        try:
            self.check_health(timeout_s=timeout_s)
        except EngineError:
            return False
        return True

    def check_health(self, *, timeout_s: float) -> None:
        """Raises RefusedError or NoAnswerError unless /health answers with status 200."""
        self._call("GET", "/health", timeout_s=timeout_s)

    def models(self, *, timeout_s: float = 10.0) -> list[dict[str, Any]]:
        """The models on the server, adapters included: `id`, and with vLLM `root`, `parent`, `max_model_len`."""
        body = self._call("GET", "/v1/models", timeout_s=timeout_s)
        found = body.get("data") if isinstance(body, dict) else None
        if not isinstance(found, list) or not all(isinstance(m, dict) and isinstance(m.get("id"), str) for m in found):
            raise EngineError(f"{self.root}/v1/models answered with no list of models")
        return found

    def version(self) -> str | None:
        """vLLM's version; None where the server does not say."""
        with contextlib.suppress(EngineError):
            said = self._call("GET", "/version", timeout_s=5.0)
            if isinstance(said, dict) and isinstance(said.get("version"), str):
                return str(said["version"])
        return None

    def logprobs(self, model: str, ids: Sequence[int], *, timeout_s: float = 300.0) -> list[float]:
        """log P(ids[i] | ids[:i]) for i = 1, 2, ..., in nats, shape [len(ids) - 1]. Raises NotFiniteError for NaN weights."""
        request = {"model": model, "prompt": list(ids), "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 0}
        try:
            body = self._call("POST", "/v1/completions", request, timeout_s=timeout_s)
            values = body["choices"][0]["logprobs"]["token_logprobs"][1 : len(ids)]
        except RefusedError as error:
            if "not json compliant" in error.said.lower() or "nan" in error.said.lower().split():
                raise NotFiniteError(error.said) from error
            raise
        except (KeyError, IndexError, TypeError) as error:
            raise EngineError(f"{self.root} answered a request for log-probs without any") from error
        if len(values) != len(ids) - 1:
            raise EngineError(f"{self.root} answered with {len(values)} log-probs for {len(ids)} tokens")
        if not all(isinstance(value, float | int) and math.isfinite(value) for value in values):
            raise NotFiniteError(f"log-probs {values[:3]}")
        return [float(value) for value in values]

    def tokenize(
        self, model: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
    ) -> list[int]:
        """The token ids of the server's prompt for a conversation. Raises RefusedError where its template refuses it."""
        request: dict[str, Any] = {"model": model, "messages": list(messages), "add_generation_prompt": True}
        if tools:
            request["tools"] = list(tools)
        body = self._call("POST", "/tokenize", request, timeout_s=60.0)
        ids = body.get("tokens") if isinstance(body, dict) else None
        if not isinstance(ids, list):
            raise EngineError(f"{self.root}/tokenize answered with no tokens")
        return ids

    def engine_answers(self, *, timeout_s: float) -> bool | None:
        """Whether the engine behind the server answers; None if there is no endpoint to ask it (dev mode is off).

        Raises NoAnswerError.
        """
        try:
            self._call("GET", "/is_sleeping", timeout_s=timeout_s)
        except RefusedError as error:
            return None if error.status in (401, 403, 404, 405) else True
        return True

    def load_adapter(self, name: str, path: str) -> None:
        """Load a LoRA adapter in addition to those on the server."""
        self._call("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": path}, timeout_s=300.0)

    def unload_adapter(self, name: str) -> None:
        """Unload an adapter."""
        self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name}, timeout_s=60.0)

    def reload_weights(self, path: str, *, timeout_s: float) -> None:
        """Load other weights of the same architecture into the model, and drop the prefix cache of the earlier ones.

        Generation is paused meanwhile, if the server has that endpoint. Raises EngineError.
        """
        try:
            self._call("POST", "/pause?mode=abort", timeout_s=60.0)
            paused = True
        except RefusedError as error:
            if error.status not in (404, 405):
                raise
            paused = False  # a version without it
        try:
            reload = {"method": "reload_weights", "kwargs": {"weights_path": path}}
            self._call("POST", "/collective_rpc", reload, timeout_s=timeout_s)
            said = self._call("POST", "/reset_prefix_cache?reset_running_requests=true", timeout_s=60.0)
            if isinstance(said, dict) and said.get("success") is False:
                raise EngineError("the prefix cache still holds what other weights computed")
        finally:
            if paused:
                self._call("POST", "/resume", timeout_s=60.0)

    def _call(self, method: str, path: str, body: Any = None, *, timeout_s: float) -> Any:
        request = urllib.request.Request(
            f"{self.root}{path}", method=method, data=None if body is None else json.dumps(body).encode()
        )
        request.add_header("Content-Type", "application/json")
        if self._api_key:
            request.add_header("Authorization", f"Bearer {self._api_key}")
        try:
            with self._opener.open(request, timeout=timeout_s) as response:
                content = response.read()
        except urllib.error.HTTPError as error:
            if 300 <= error.code < 400:
                raise RefusedError(error.code, "it sends us elsewhere; name the address that answers itself") from None
            raise RefusedError(error.code, self._said(error)) from error
        except (OSError, http.client.HTTPException) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            said = hide(str(cause), [self._api_key])
            raise NoAnswerError(f"no answer from {self.root}{path}: {said}") from None
        try:
            return hide_in(json.loads(content), [self._api_key]) if content else None
        except (ValueError, RecursionError):
            return hide(content.decode("utf-8", "replace"), [self._api_key])

    def _said(self, error: urllib.error.HTTPError) -> str:
        try:
            text = error.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            return ""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            value = json.loads(text)
            found = value.get("error", value)
            text = str(found["message"] if isinstance(found, dict) else found)
        return hide(" ".join(text.split()), [self._api_key])[:300]
