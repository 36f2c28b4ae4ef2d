"""A server of the user's own: asked what it serves, compared with the checkpoint, never started, swapped or ended."""

from __future__ import annotations

import contextlib
from typing import Any

from harness.core.endpoint import Endpoint
from harness.core.errors import CheckpointError, EngineError
from harness.core.serving import Servable, ServeSettings
from harness.engines.vllm.api import Api, NotFiniteError, RefusedError
from harness.engines.vllm.layout import adapter_name, cut_length, identity
from harness.engines.vllm.probe import Verifier
from harness.engines.vllm.server import NOT_FINITE
from harness.engines.vllm.settings import key_of

NOT_COMPARED = "not compared with the checkpoint's own log-probs"
GIVES_NONE = f"{NOT_COMPARED}: the server gives none"


class ExternalServer:
    """The server at `serve.url`. A checkpoint is found there by its name or folder; else an adapter is loaded where that is allowed;
    else the only model of the server is taken for the checkpoint, and their log-probs are compared."""

    def __init__(self, settings: ServeSettings, verifier: Verifier) -> None:
        assert settings.url is not None
        self._settings = settings
        self._url = settings.url.rstrip("/")
        self._verifier = verifier
        self._known: dict[str, Endpoint] = {}

    def endpoint(self, wanted: Servable) -> Endpoint:
        """Where the checkpoint answers. Raises CheckpointError for a server of other weights, EngineError for none."""
        key = key_of(self._settings)
        api = Api(self._url.removesuffix("/v1"), api_key=key)
        try:
            models = api.models()
        except RefusedError as error:
            if error.status in (401, 403):
                raise EngineError(
                    f"{self._url} refuses our key ({error}); name its variable with serve.api_key_env"
                ) from error
            raise
        known = self._known.get(identity(wanted))
        if known is not None and any(m["id"] == known.model for m in models):
            return known
        entry, notes = self._find(api, models, wanted)
        length = entry.get("max_model_len")
        length = length if isinstance(length, int) else None
        notes += [*self._compare(api, str(entry["id"]), wanted, length), *wanted.notes]
        found = Endpoint(
            api_base=f"{api.root}/v1",
            model=str(entry["id"]),
            how="external",
            api_key=key,
            version=api.version(),
            max_model_len=self._settings.max_model_len or length,
            parallel=self._settings.parallel,
            note="; ".join(notes) or None,
            own_length=cut_length(wanted.model, self._settings.max_model_len or length),
            opens_thought=wanted.opens_thought,
            logprobs=not any(note.startswith(GIVES_NONE) for note in notes),
        )
        self._known[identity(wanted)] = found
        return found

    def _find(self, api: Api, models: list[dict[str, Any]], wanted: Servable) -> tuple[dict[str, Any], list[str]]:
        folder = wanted.adapter or wanted.model
        names = {wanted.label, str(folder), folder.name, adapter_name(wanted)}
        named = [m for m in models if m["id"] in names or m.get("root") in (str(folder), str(folder.resolve()))]
        if named:
            return named[0], []
        if wanted.adapter is not None:
            name = adapter_name(wanted)
            with contextlib.suppress(RefusedError):
                api.load_adapter(name, str(folder.resolve()))
                return {"id": name, "max_model_len": models[0].get("max_model_len") if models else None}, []
        if len(models) == 1:
            return models[0], [f"the server's only model, {models[0]['id']}, was taken for the checkpoint"]
        there = ", ".join(m["id"] for m in models) or "nothing"
        raise CheckpointError(
            f"{self._url} serves {there}, not {wanted.label}; start it with --served-model-name {folder.name}"
        )

    def _compare(self, api: Api, name: str, wanted: Servable, length: int | None) -> list[str]:
        """Compare served with own log-probs, and return notes. A server without log-probs is accepted with a note."""
        try:
            # Its dtype is not known, so the bounds of half precision apply.
            self._verifier.verify(api, name, wanted, dtype=None, max_len=length)
        except NotFiniteError as error:
            raise CheckpointError(NOT_FINITE.format(wanted.label)) from error
        except RefusedError as error:
            if error.status in (401, 403):
                raise EngineError(
                    f"{self._url} refuses our key (HTTP {error.status}); see serve.api_key_env"
                ) from error
            return [f"{GIVES_NONE} ({error})", *self._compare_prompts(api, name, wanted)]
        notes = [] if self._settings.verify and wanted.logprobs else [NOT_COMPARED]
        return [*notes, *self._compare_prompts(api, name, wanted)]

    def _compare_prompts(self, api: Api, name: str, wanted: Servable) -> list[str]:
        """Refuse a server with another chat template or tokenizer; a note where it cannot be asked. Raises CheckpointError."""
        try:
            difference = self._verifier.rendering(api, name, wanted)
        except EngineError as error:
            return [f"its prompts were not compared with the checkpoint's own: the server does not tell them ({error})"]
        if difference is not None:
            raise CheckpointError(
                f"{self._url} does not serve {wanted.label} as it is: {difference}; start it with the checkpoint's own "
                "tokenizer and chat template, name the template with serve.chat_template, or set serve.verify: false"
            )
        return []
