"""One vLLM server for one model: started, probed, ended. Blocking, with `async with` for use in an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.core.endpoint import Endpoint, How
from harness.core.errors import CheckpointError, EngineError, SpecError
from harness.core.serving import ServeSettings
from harness.engines.vllm.api import Api, NoAnswerError, NotFiniteError, RefusedError
from harness.engines.vllm.command import DROPPABLE, Launch, argv, environment, is_local, value_of
from harness.engines.vllm.log import explain, head, running_with, tail, telling_lines, unknown_options
from harness.engines.vllm.probe import probe_ids
from harness.engines.vllm.process import GuardedProcess
from harness.engines.vllm.reasoning_parser import choose_reasoning_parser
from harness.engines.vllm.settings import check_settings, key_of
from harness.engines.vllm.tool_parser import chat_template, choose_parser

POLL_S = 0.1
TRIES = 3
"""Starts on another free port, if the chosen one was taken in the meantime."""
DYING_S = 6.0
"""Seconds that a broken server takes, at most, to notice and exit."""
ENDED_BY_US = "was ended by the harness"
HUNG_S = 30.0
"""Seconds without an answer to /health after which a running server counts as dead."""

HEALTH_S = 10.0
"""Seconds that one request to /health may take."""


class VllmServer:
    """A managed `vllm serve`.

        async with VllmServer("runs/checkpoint-500") as server:
            ask(server.endpoint.api_base, server.endpoint.model)

    or `with`, or `start()` and `stop()`. `port` None: any that is free. After `start` the server answers, is warmed up and has
    given finite log-probs. After the block, also after an exception or Ctrl-C, and when this process dies in any way, none of its
    processes is left.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        settings: ServeSettings | None = None,
        log: str | Path = "vllm.log",
        port: int | None = None,
        launch: Launch | None = None,
        inherited: Mapping[str, str] | None = None,
    ) -> None:
        """`inherited`: environment variables; None: this process's at each start."""
        self.settings = settings or ServeSettings()
        self.model = Path(model)
        self.log = Path(log)
        self._port = port
        self._given = launch
        self._inherited = inherited
        self._process: GuardedProcess | None = None
        self._api: Api | None = None
        self._endpoint: Endpoint | None = None
        self._given_up = threading.Event()
        self.hangs = False
        self._log_start = 0

    @property
    def endpoint(self) -> Endpoint:
        """Where it answers. Raises EngineError before `start`."""
        if self._endpoint is None:
            raise EngineError(f"the server of {self.model} is not running")
        return self._endpoint

    @property
    def api(self) -> Api:
        """The server's endpoints. Raises EngineError before `start`."""
        if self._api is None:
            raise EngineError(f"the server of {self.model} is not running")
        return self._api

    def pids(self) -> list[int]:
        """Its processes, as of now."""
        return self._process.pids() if self._process else []

    def start(self) -> Endpoint:
        """Start it and wait until it answers. Raises SpecError, CheckpointError or EngineError with the log's telling lines."""
        if self._process is not None:
            raise EngineError(f"the server of {self.model} is running already")
        executable = check_settings(self.settings)
        if executable is None:
            raise SpecError("serve.url names a server of your own; there is nothing to start")
        if self.model.is_dir() and not (self.model / "config.json").exists():
            raise CheckpointError(f"{self.model} has no config.json; it is no model folder")
        if not self.model.exists() and (self.model.is_absolute() or str(self.model).startswith(".")):
            raise CheckpointError(f"no model folder at {self.model}")
        launch = self._launch()
        key = key_of(self.settings)
        inherited = os.environ if self._inherited is None else self._inherited
        env = environment(executable, launch, self.settings.env, inherited, api_key=key)
        fixed = self._port or value_of(self.settings.args, "--port")
        without: set[str] = set()
        for attempt in range(TRIES + len(DROPPABLE)):
            port = _checked(int(fixed), launch.host) if fixed else free_port()
            words = argv(executable, launch, self.settings.args, port=port, without=without)
            self._log_start = self.log.stat().st_size if self.log.exists() else 0
            self._process = GuardedProcess(words, env, self.log, grace_s=launch.drain_s + 5.0)
            self._api = Api(f"http://{_reachable(launch.host)}:{port}", api_key=key)
            try:
                if self._wait():
                    self._endpoint = self._probed(launch, key)
                    return self._endpoint
                text = tail(self.log, start=self._log_start)
                code = self._process.exit_code()
                self.stop(drain=False)
                unknown = set(unknown_options(text)) & set(DROPPABLE) - without
                if unknown:
                    without |= unknown
                    continue
                if "Address already in use" in text and not fixed and attempt < TRIES:
                    continue
                raise EngineError(
                    f"vLLM does not start with {self.model}: {explain(text)}{_ended_by(code)} (all of it: {self.log})"
                )
            except BaseException:
                self.stop(drain=False)
                raise
        raise EngineError(f"vLLM found no port for {self.model}; see {self.log}")

    def restart(self) -> Endpoint:
        """End what is left of it and start it again where it answered. Raises what `start` raises."""
        self._port = int(self.endpoint.api_base.removesuffix("/v1").rpartition(":")[2])
        self.stop(drain=False)
        return self.start()

    def alive(self, *, hung_s: float = HUNG_S, answer_s: float = HEALTH_S) -> bool:
        """Whether the process runs and answers. A busy server is given `hung_s` seconds; one that runs and gives no answer within
        them `hangs` from then on."""
        deadline = time.monotonic() + hung_s
        while self._process is not None and self._api is not None and self._process.exit_code() is None:
            try:
                self._api.check_health(timeout_s=answer_s)
            except RefusedError:
                return False
            except NoAnswerError:
                self.hangs = time.monotonic() > deadline and self._process.exit_code() is None
                if time.monotonic() > deadline:
                    return False
                time.sleep(POLL_S)
                continue
            return True
        return False

    def stop(self, *, drain: bool = True) -> None:
        """End it, after the requests in flight (`drain`), and wait until every process is gone. Idempotent."""
        process, self._process, self._api, self._endpoint = self._process, None, None, None
        self.hangs = False
        if process is not None:
            process.end(drain=drain)

    def give_up(self) -> None:
        """Make a `start` that is running in another thread raise EngineError at once."""
        self._given_up.set()

    def last_words(self) -> str:
        """Why it ended, as its log has it, and the signal where it was one."""
        code = self._process.exit_code() if self._process is not None else None
        words = explain(tail(self.log, start=self._log_start))
        return words if ENDED_BY_US in words else words + _ended_by(code)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(drain=kind is None)

    async def __aenter__(self) -> Self:
        starting = asyncio.ensure_future(asyncio.to_thread(self.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            self.give_up()
            with contextlib.suppress(Exception):
                await starting
            self.stop(drain=False)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(asyncio.to_thread(self.stop, drain=kind is None))

    def _launch(self) -> Launch:
        """The launch, completed by the user's options and by the model's own files."""
        launch = self._given or Launch(model=self.model, name=self.model.name)
        host = value_of(self.settings.args, "--host") or launch.host
        name = value_of(self.settings.args, "--served-model-name") or launch.name
        template = Path(self.settings.chat_template) if self.settings.chat_template else launch.chat_template
        if template is not None and not template.is_file():
            raise SpecError(f"serve.chat_template: no file {template}")
        text = template.read_text(encoding="utf-8") if template else chat_template(launch.tokenizer or self.model)
        return dataclasses.replace(
            launch,
            host=host,
            name=name,
            dev=launch.dev and is_local(host),
            chat_template=template,
            parser=launch.parser or self.settings.tool_call_parser or choose_parser(text, model_type(self.model)),
            reasoning_parser=launch.reasoning_parser
            or self.settings.reasoning_parser
            or choose_reasoning_parser(text, model_type(self.model), launch.tokenizer or self.model),
            max_model_len=launch.max_model_len or self.settings.max_model_len,
        )

    def _wait(self) -> bool:
        """Whether it came up; false when it ended instead. Raises EngineError when it takes too long."""
        assert self._process is not None
        assert self._api is not None
        deadline = time.monotonic() + self.settings.startup_timeout_s
        while self._process.exit_code() is None:
            if self._api.healthy(timeout_s=5.0):
                return True
            if self._given_up.is_set():
                raise EngineError(f"the start of the server of {self.model} was called off")
            if time.monotonic() > deadline:
                raise EngineError(
                    f"vLLM does not answer {self.settings.startup_timeout_s:g} s after its start with {self.model}; "
                    f"serve.startup_timeout_s gives it longer. Its log ends with: {self.last_words()} (all of it: {self.log})"
                )
            time.sleep(POLL_S)
        return False

    def _ends(self, *, within_s: float) -> bool:
        """Whether the process is gone, or goes within this time."""
        deadline = time.monotonic() + within_s
        while self._process is not None and self._process.exit_code() is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def _probed(self, launch: Launch, key: str | None) -> Endpoint:
        """The endpoint, after a first request that warms the server up and must give finite log-probs."""
        try:
            entry = next((m for m in self.api.models() if m["id"] == launch.name), None)
        except EngineError as error:
            self._ends(within_s=DYING_S)
            raise EngineError(f"vLLM broke when {self.model} came up: {self._reason(error)}") from error
        if entry is None or entry.get("root") not in (None, str(self.model)):
            raise EngineError(f"{self.api.root} does not serve {self.model}; somebody else's server answers there")
        length = entry.get("max_model_len")
        try:
            self.api.logprobs(launch.name, probe_ids(self.model, max_len=length))
        except NotFiniteError as error:
            raise CheckpointError(NOT_FINITE.format(self.model)) from error
        except EngineError as error:
            self._ends(within_s=DYING_S)
            raise EngineError(f"vLLM broke at its first request with {self.model}: {self._reason(error)}") from error
        dtype, device = running_with(head(self.log, start=self._log_start))
        return Endpoint(
            api_base=f"{self.api.root}/v1",
            model=launch.name,
            how="start",
            api_key=key,
            version=self.api.version(),
            dtype=dtype,
            device=device,
            max_model_len=length if isinstance(length, int) else None,
            parallel=self.settings.parallel,
        )

    def _reason(self, error: EngineError) -> str:
        """The cause in the log, which an HTTP error does not show; with the HTTP error where the log has none."""
        found = telling_lines(tail(self.log, start=self._log_start))
        words = self.last_words() if found else f"{error}; its log ends with: {self.last_words()}"
        return f"{words} (all of it: {self.log})"

    def named(self, name: str, how: How) -> Endpoint:
        """The endpoint of a model on this server under its name."""
        return dataclasses.replace(self.endpoint, model=name, how=how)


def _ended_by(code: int | None) -> str:
    """The signal that ended a command, in words, where its exit code says so."""
    number = 0 if code is None else -code if code < 0 else code - 128
    if number <= 0:
        return ""
    hint = ", as the system does when memory runs out" if number == signal.SIGKILL else ""
    return f"; it was ended by signal {number}{hint}"


NOT_FINITE = (
    "{} gives log-probs that are not finite under vLLM: its weights hold NaN or infinity, or overflow in this dtype"
)


def model_type(folder: Path) -> str | None:
    """`model_type` of a folder's configuration."""
    import json

    with contextlib.suppress(OSError, ValueError, AttributeError):
        value = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
        return value if isinstance(value, str) else None
    return None


def free_port() -> int:
    """A port of 127.0.0.1 that is free now."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


def _checked(port: int, host: str) -> int:
    """The requested port. Raises EngineError if it is taken: vLLM would report that only after half a minute, or share it."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host if is_local(host) and host != "::1" else "127.0.0.1", port))
        except OSError as error:
            raise EngineError(f"port {port} cannot be used ({error.strerror or error}); choose another one") from error
    return port


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else f"[{host}]" if ":" in host else host
