"""Subjects whose server is a ScriptedServer in this process: what a managed server gives a component, without vLLM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from harness.core.endpoint import Endpoint
from harness.core.errors import HarnessError
from harness.engines.models.tokenizer_identity import tokenizer_digest
from harness.engines.scripted.server import Completer, ScriptedServer, serving
from harness.engines.scripted.trouble import Trouble


class ServedSubject:
    """An opened checkpoint on a server that is there already. `endpoints` counts how often it was asked for."""

    def __init__(self, model: Any, tokenizer: Any, endpoint: Endpoint | HarnessError) -> None:
        self.endpoints = 0
        self._model, self._tokenizer, self._endpoint = model, tokenizer, endpoint

    def model(self) -> Any:
        return self._model

    def tokenizer(self) -> Any:
        return self._tokenizer

    def tokenizer_id(self) -> str:
        return tokenizer_digest(self._tokenizer)

    def endpoint(self) -> Endpoint:
        self.endpoints += 1
        if isinstance(self._endpoint, HarnessError):
            raise self._endpoint
        return self._endpoint


@contextmanager
def served(
    completer: Completer,
    tokenizer: Any,
    *,
    model: Any = None,
    max_model_len: int | None = 1024,
    troubles: Sequence[Trouble] = (),
    parallel: int = 8,
    key: str | None = None,
    sent_key: str | None = None,
    engine: str = "scripted",
) -> Iterator[tuple[ServedSubject, ScriptedServer]]:
    """A subject and its server."""
    with serving(ScriptedServer(completer=completer, troubles=troubles, key=key)) as server:
        endpoint = Endpoint(
            api_base=server.url,
            model="m",
            how="external",
            api_key=sent_key or key,
            engine=engine,
            max_model_len=max_model_len,
            parallel=parallel,
        )
        yield ServedSubject(model, tokenizer, endpoint), server
