"""Serves the checkpoints of a sweep on one vLLM server, with as few restarts as possible. Before a checkpoint's endpoint is returned,
its served log-probs are compared with those of the in-process model.

Knows what is loaded on the server and how to load something else. Running a server is server.py's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
from collections import OrderedDict
from pathlib import Path

from harness.core.endpoint import Endpoint, How
from harness.core.errors import CheckpointError, EngineError, HarnessError
from harness.core.serving import Servable, ServeSettings
from harness.engines.vllm.api import NotFiniteError, RefusedError
from harness.engines.vllm.command import is_local, value_of
from harness.engines.vllm.external import ExternalServer
from harness.engines.vllm.launch import NAME, launch_for
from harness.engines.vllm.layout import (
    adapter_name,
    adapter_rank,
    cut_length,
    identity,
    is_quantized,
    layout,
)
from harness.engines.vllm.loadable import check_loadable
from harness.engines.vllm.probe import Verifier
from harness.engines.vllm.server import NOT_FINITE, VllmServer
from harness.engines.vllm.watch import Watch

MAX_CRASHES = 5
"""Restarts for one checkpoint after which `endpoint` raises."""
RELOAD_S = 600.0
PARALLEL_ENGINES = ("--data-parallel-size", "-dp", "--data-parallel-size-local", "--nnodes", "--headless")
"""Options with which a server has several engines; a reload of weights may not reach all of them."""


@dataclasses.dataclass(slots=True)
class _Loaded:
    """What is loaded on the running server.

    `fingerprint` is of its full model's weights; None while it is not known (a failed reload).
    """

    layout: str
    fingerprint: str | None
    max_rank: int | None
    adapters: OrderedDict[str, str] = dataclasses.field(default_factory=OrderedDict)
    """Fingerprint -> name on the server, the most recently used last."""
    verified: set[str] = dataclasses.field(default_factory=set)
    rendering: str | None = None
    """How its prompts differ from the tokenizer's own, if they did right after the start: vLLM renders some models by code of its own."""


class CheckpointServer:
    """Loads a checkpoint on the server when its endpoint is asked for. Every method may be called from any thread."""

    def __init__(
        self,
        settings: ServeSettings,
        *,
        log_folder: Path,
        dtype: str = "auto",
        gpu_memory_utilization: float | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self._settings = settings
        self._log_folder = log_folder
        self._dtype = dtype
        self._gpu_memory_utilization = gpu_memory_utilization
        self._trust_remote_code = trust_remote_code
        self._verifier = Verifier(enabled=settings.verify)
        self._external = ExternalServer(settings, self._verifier) if settings.url else None
        self._lock = threading.RLock()
        self._server: VllmServer | None = None
        self._starting: VllmServer | None = None
        self._watch: Watch | None = None
        self._loaded: _Loaded | None = None
        self._n_starts = 0
        self._inherited: dict[str, str] | None = None
        """The environment at the first start. A later one may come while a component has set variables for a task of its own."""
        self._swap_failure: str | None = None
        self._crashes: tuple[str, int] = ("", 0)
        self._refused: tuple[str, HarnessError] | None = None
        self._closed = False

    def endpoint(self, servable: Servable) -> Endpoint:
        """Where the checkpoint answers; loads it on the server if necessary, and restarts a server that died.

        Blocks. Raises SpecError, CheckpointError or EngineError.
        """
        with self._lock:
            if self._closed:
                raise EngineError("the server was closed")
            if self._external is not None:
                return self._external.endpoint(servable)
            who = identity(servable)
            if self._refused is not None and self._refused[0] == who:
                raise self._refused[1]
            try:
                return self._put(servable)
            except CheckpointError as error:
                self._refused = who, error  # another start for the next component would fail in the same way
                raise

    def n_restarts(self, servable: Servable) -> int:
        """How often the server was restarted while this checkpoint was on it."""
        who, n = self._crashes
        return n if self._external is None and who == identity(servable) else 0

    def pids(self) -> list[int]:
        """The server's processes, as of now."""
        return self._server.pids() if self._server else []

    def close(self) -> None:
        """End the server, also one that is starting, and wait until all its processes are gone. Idempotent."""
        self._closed = True
        starting = self._starting
        if starting is not None:
            starting.give_up()
        with self._lock:
            self._end()

    def __enter__(self) -> CheckpointServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, wanted: Servable) -> Endpoint:
        """Hot-swap if possible (load the LoRA adapter, or reload weights); if that is impossible or fails, restart the server."""
        how: How = "restart" if self._n_starts else "start"
        self._swap_failure = None
        if self._server is None or not self._has(wanted):
            check_loadable(wanted)
            self._verifier.prepare(wanted)
        if self._server is not None:
            if not self._server.alive():
                self._count_crash(wanted)
                self._end()
            elif self._has(wanted):
                return self._endpoint(wanted, "kept")
            else:
                swapped = self._swap(wanted)
                if swapped is not None:
                    return swapped
                self._end()
        return self._start(wanted, how)

    def _has(self, wanted: Servable) -> bool:
        loaded = self._loaded
        if loaded is None or loaded.layout != layout(wanted) or wanted.fingerprint not in loaded.verified:
            return False
        if wanted.adapter is not None:
            return wanted.fingerprint in loaded.adapters
        return wanted.fingerprint == loaded.fingerprint

    def _swap(self, wanted: Servable) -> Endpoint | None:
        """Load the checkpoint on the running server and verify it; None where that is impossible or failed, so that a restart is needed."""
        loaded = self._loaded
        if loaded is None or loaded.layout != layout(wanted):
            return None
        try:
            if wanted.adapter is not None:
                return self._adapt(wanted, loaded)
            if loaded.fingerprint == wanted.fingerprint:  # the base of the adapters that are there
                self._verify(wanted, NAME)
                return self._endpoint(wanted, "kept")
            return self._reload(wanted, loaded)
        except BrokenWeightsError:
            if not self._verifier.own_is_finite(wanted):
                raise
            self._swap_failure = "the swap made log-probs that are not finite"
        except (EngineError, CheckpointError) as error:
            self._swap_failure = str(error)
        return None

    def _adapt(self, wanted: Servable, loaded: _Loaded) -> Endpoint | None:
        """Load an adapter in addition to the others; None where the server has another base, or no room for its rank."""
        assert wanted.adapter is not None
        if not self._is_local():
            return None
        if loaded.fingerprint != wanted.model_fingerprint or (loaded.max_rank or 0) < adapter_rank(wanted.adapter):
            return None
        self._load_adapter(wanted, loaded)
        return self._endpoint(wanted, "adapter")

    def _load_adapter(self, wanted: Servable, loaded: _Loaded, *, fresh: bool = False) -> None:
        assert self._server is not None
        while wanted.fingerprint not in loaded.adapters and len(loaded.adapters) >= self._settings.max_loras:
            oldest, gone = loaded.adapters.popitem(last=False)
            loaded.verified.discard(oldest)
            self._server.api.unload_adapter(gone)
        name = adapter_name(wanted)
        if wanted.fingerprint not in loaded.adapters:
            with self._files_read():
                self._server.api.load_adapter(name, str(wanted.adapter))
            loaded.adapters[wanted.fingerprint] = name
        try:
            self._verify(wanted, name, fresh=fresh)
        except HarnessError:
            loaded.adapters.pop(wanted.fingerprint, None)
            if self._server.alive():
                self._server.api.unload_adapter(name)
            raise

    def _reload(self, wanted: Servable, loaded: _Loaded) -> Endpoint | None:
        """Load the weights into the running model; None where that is impossible."""
        assert self._server is not None
        if not self._can_reload() or loaded.max_rank is not None or is_quantized(wanted.model):
            return None
        loaded.fingerprint = None
        loaded.verified.clear()
        with self._files_read():
            self._server.api.reload_weights(str(wanted.model), timeout_s=RELOAD_S)
        self._verify(wanted, NAME)
        loaded.fingerprint = wanted.fingerprint
        return self._endpoint(wanted, "reload")

    def _files_read(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self._watch is None else self._watch.held()

    def _can_reload(self) -> bool:
        args = self._settings.args
        alone = not any(word.split("=", 1)[0].replace("_", "-") in PARALLEL_ENGINES for word in args)
        return alone and self._is_local()

    def _is_local(self) -> bool:
        return is_local(value_of(self._settings.args, "--host") or "127.0.0.1")

    def _start(self, wanted: Servable, how: How) -> Endpoint:
        launch = launch_for(
            wanted,
            self._settings,
            dtype=self._dtype,
            gpu_memory_utilization=self._gpu_memory_utilization,
            trust_remote_code=self._trust_remote_code,
            dev=self._can_reload(),
        )
        if wanted.adapter is not None and not self._is_local():
            launch = dataclasses.replace(launch, adapter=(adapter_name(wanted), wanted.adapter))
        self._n_starts += 1
        log = self._log_folder / f"vllm-{self._n_starts}.log"
        if self._inherited is None:
            self._inherited = dict(os.environ)
        server = VllmServer(wanted.model, settings=self._settings, log=log, launch=launch, inherited=self._inherited)
        self._starting = server
        try:
            if self._closed:
                raise EngineError("the server was closed")
            server.start()
        except EngineError as error:
            if self._crashes[0] != identity(wanted):  # it never came up with this checkpoint
                self._refused = identity(wanted), error
            raise
        finally:
            self._starting = None
        self._server = server
        self._watch = Watch(server)
        self._loaded = loaded = _Loaded(
            layout=layout(wanted), fingerprint=wanted.model_fingerprint, max_rank=launch.max_rank
        )
        try:
            if wanted.adapter is None:
                self._verify(wanted, NAME, fresh=True)
            else:
                self._load_adapter(wanted, loaded, fresh=True)
        except EngineError as error:
            if not server.alive():
                raise EngineError(f"vLLM broke when {wanted.label} was put on it: {server.last_words()}") from error
            raise CheckpointError(f"{wanted.label} cannot be served: {error}") from error
        return self._endpoint(wanted, how)

    def _verify(self, wanted: Servable, name: str, *, fresh: bool = False) -> None:
        """Raises CheckpointError unless served log-probs are finite and, like prompts, those of the checkpoint itself.

        On a `fresh` server, which was started with these files, differing prompts are only noted: a restart would not change them.
        """
        assert self._server is not None
        assert self._loaded is not None
        endpoint = self._server.endpoint
        try:
            self._verifier.verify(self._server.api, name, wanted, dtype=endpoint.dtype, max_len=endpoint.max_model_len)
        except NotFiniteError as error:
            raise BrokenWeightsError(NOT_FINITE.format(wanted.label)) from error
        if self._loaded.rendering is None:
            difference = self._prompts_differ(wanted, name)
            if difference is not None and not fresh:
                raise CheckpointError(f"vLLM does not serve {wanted.label} as it is: {difference}")
            self._loaded.rendering = difference
        self._loaded.verified.add(wanted.fingerprint)

    def _prompts_differ(self, wanted: Servable, name: str) -> str | None:
        assert self._server is not None
        try:
            return self._verifier.rendering(self._server.api, name, wanted)
        except RefusedError as error:
            return f"it does not tell its prompts ({error})"

    def _endpoint(self, wanted: Servable, how: How) -> Endpoint:
        assert self._server is not None
        assert self._loaded is not None
        name = self._server.endpoint.model
        if wanted.adapter is not None:
            name = self._loaded.adapters[wanted.fingerprint]
            self._loaded.adapters.move_to_end(wanted.fingerprint)
        notes = list(wanted.notes)
        if self._loaded.rendering is not None:
            notes.append(f"vLLM's prompts differ from the checkpoint's own: {self._loaded.rendering}")
        if self._swap_failure is not None:
            notes.append(f"it could not be swapped in: {self._swap_failure}")
        if not self._settings.verify or wanted.logprobs is None:
            notes.append("not compared with the checkpoint's own log-probs")
        named = self._server.named(name, how)
        return dataclasses.replace(
            named,
            note="; ".join(notes) or None,
            own_length=cut_length(wanted.model, named.max_model_len),
            logprobs=True,
            opens_thought=wanted.opens_thought,
        )

    def _count_crash(self, wanted: Servable) -> None:
        assert self._server is not None
        who, n = self._crashes
        n = n + 1 if who == identity(wanted) else 1
        self._crashes = identity(wanted), n
        if n > MAX_CRASHES:
            words = self._server.last_words()
            self._end()
            raise EngineError(f"vLLM died {n} times with {wanted.label}; the last time it said: {words}")

    def _end(self) -> None:
        server, self._server, self._loaded = self._server, None, None
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop()
        if server is not None:
            server.stop()


class BrokenWeightsError(CheckpointError):
    """Served log-probs are not finite; a restart would not help."""
