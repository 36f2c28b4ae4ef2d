"""One run of Inspect's own `eval` on one checkpoint, resumed where an earlier one was stopped. Returns the complete log."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import threading
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.components.inspect.checks import NONE
from harness.components.inspect.config import CHECKPOINT, InspectConfig
from harness.components.inspect.connection import Connection, FixedConnection, ServedConnection
from harness.components.inspect.options import check_options
from harness.components.inspect.surroundings import inspect_alone
from harness.components.inspect.task import Built
from harness.core.chat_config import ChatConfig
from harness.core.component import Progress
from harness.core.endpoint import Endpoint
from harness.core.errors import EngineError, SpecError

if TYPE_CHECKING:
    from harness.components.inspect.model import Noted

LOGS = "inspect"
"""Folder of Inspect's log in a component's scratch folder."""
DIRECT = ("hosted_vllm", "openai", "vllm")
"""Providers that, with an api_base, are asked by our client in OpenAI's protocol; all others are Inspect's own."""
_ONE_AT_A_TIME = threading.Lock()
"""Inspect runs one evaluation per process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """The result of a run: Inspect's log with its samples, and (sample, epoch) -> the failure in place of an answer."""

    log: Any
    unanswered: Mapping[tuple[str, int], str]


def check_roles(roles: Mapping[str, ChatConfig], name: str) -> None:
    """Raise SpecError for what is missing to ask the models of roles."""
    for role, chat in roles.items():
        provider, _, model = chat.model.partition("/")
        try:
            chat.key()
        except SpecError as error:
            raise SpecError(f"component {name}: role {role}: {error}") from error
        if chat.model == CHECKPOINT:
            if chat.api_base or chat.api_key_env:
                raise SpecError(
                    f"component {name}: role {role} is the checkpoint, so it has no api_base or api_key_env"
                )
        elif not model:
            raise SpecError(
                f"component {name}: role {role}: model is hosted_vllm/NAME, openai/NAME, Inspect's PROVIDER/NAME, or checkpoint"
            )
        elif provider in DIRECT and chat.api_base:
            continue
        elif provider in ("hosted_vllm", "vllm"):
            raise SpecError(f"component {name}: role {role} needs api_base, such as http://127.0.0.1:8000/v1")
        else:
            check_options(chat.args, f"component {name}: role {role}: args")


def check_providers(config: InspectConfig) -> None:
    """Raise SpecError for what Inspect's own providers lack to ask the models of roles: packages, keys."""
    for role, chat in config.roles.items():
        provider = chat.model.partition("/")[0]
        if chat.model == CHECKPOINT or (provider in DIRECT and chat.api_base):
            continue
        try:
            with inspect_alone(), contextlib.redirect_stdout(io.StringIO()):
                _provided(chat, config)
        except Exception as error:
            words = _plain(getattr(error, "message", None) or error)
            raise SpecError(f"component {config.name}: role {role}: {chat.model} cannot be asked: {words}") from error


def run(
    config: InspectConfig,
    built: Built,
    endpoint: Callable[[], Endpoint],
    scratch: Path,
    progress: Progress,
    *,
    n_parallel: int,
) -> Ran:
    """Run every sample that is not complete in `scratch` yet. Raises HarnessError."""
    from harness.components.inspect import journal
    from harness.components.inspect.model import Noted

    scratch.mkdir(parents=True, exist_ok=True)
    noted = Noted()
    told = _Told(progress, built)
    earlier = journal.kept(scratch / journal.FILE)
    keeper = journal.Keeper(scratch / journal.FILE, noted, told.sample, begun=earlier is not None)
    told.known(earlier)
    with _ONE_AT_A_TIME, inspect_alone(built.environment), contextlib.redirect_stdout(io.StringIO()):
        journal.listen(keeper)
        exited = None
        try:
            log = asyncio.run(_eval(config, built, endpoint, earlier, scratch, noted, n_parallel))
        except SystemExit as error:
            if not _is_from(error, built.sources):  # a signal's handler
                raise
            exited = f"SystemExit: {error.code}"
        finally:
            journal.listen(None)
    if exited is not None:
        raise EngineError(f"{config.task} ends the process ({exited}) where it should raise an error")
    if log is None:  # Inspect swallows an interruption; completed samples are in the journal
        raise KeyboardInterrupt
    if keeper.failure is not None:
        raise keeper.failure
    told.rest()
    return Ran(log=log, unanswered=noted.unanswered)


async def _eval(
    config: InspectConfig,
    built: Built,
    endpoint: Callable[[], Endpoint],
    earlier: Any,
    scratch: Path,
    noted: Noted,
    n_parallel: int,
) -> Any:
    """Inspect's log; None where it was interrupted."""
    from inspect_ai import Epochs, eval_async
    from inspect_ai._eval.loader import resolve_task_args, resolve_task_sandbox
    from inspect_ai._eval.task.task import PreviousTask
    from inspect_ai._util.error import PrerequisiteError
    from inspect_ai.util._display import init_display_type

    from harness.components.inspect.sandbox import ProgramSandbox

    init_display_type("none")
    served = ServedConnection(endpoint, timeout_s=config.request_timeout_s, attempts=config.attempts)
    opened: list[Connection] = [served]
    model = _model(CHECKPOINT, served, noted, n_parallel, {}, plays_role=False)
    # Inspect's cache of answers, which a task may turn on, is keyed by name and address: without this, checkpoints would share it.
    model.api.base_url = f"harness:{scratch.absolute()}"
    roles = {name: _role(name, chat, config, served, noted, n_parallel, opened) for name, chat in config.roles.items()}
    sandbox = _sandbox(config.sandbox)
    ProgramSandbox.libraries = {} if built.card is None else built.card.libraries()
    task = (
        built.task
        if earlier is None
        else PreviousTask(
            id=earlier.eval.task_id,
            task=built.task,
            task_args=resolve_task_args(built.task),
            model=model,
            model_roles=roles or None,
            sandbox=resolve_task_sandbox(built.task, sandbox),
            log=earlier,
            log_info=None,
        )
    )
    try:
        logs = await eval_async(
            task,
            model=model,
            model_roles=roles or None,
            sandbox=sandbox,
            log_dir=str(scratch / LOGS),
            log_format="eval",
            log_level="error",
            epochs=None if config.epochs is None else Epochs(config.epochs, config.reducer),
            fail_on_error=False,
            continue_on_fail=True,
            message_limit=config.message_limit,
            token_limit=config.token_limit,
            turn_limit=config.turn_limit,
            time_limit=config.time_limit,
            working_limit=config.working_limit,
            max_samples=n_parallel,
            log_realtime=False,
            log_buffer=1000,
            ctl_server=False,
            max_connections=n_parallel,
            **dict[str, Any](config.generate),
        )
    except PrerequisiteError as error:
        raise EngineError(f"{config.task} cannot run here: {_plain(error.message)}") from error
    finally:
        for connection in opened:
            await connection.close()
    if served.broken is not None:
        raise served.broken
    if not logs or logs[0].status == "cancelled":
        return None
    log = logs[0]
    if log.status != "success":
        why = log.error.message if log.error else log.status
        raise EngineError(f"Inspect's evaluation of {config.task} ended early: {_plain(why)}")
    for path in (scratch / LOGS).glob("*.eval"):
        if str(path.resolve()) not in (log.location, log.location.removeprefix("file://")):
            path.unlink()  # of an earlier run, whose samples are in this one
    return log


def _is_from(error: SystemExit, sources: Collection[Path]) -> bool:
    """Whether `sys.exit` or `exit` was called in one of these files."""
    files = [Path(frame.f_code.co_filename) for frame, _ in traceback.walk_tb(error.__traceback__)]
    called = [file for file in files if file.stem != "_sitebuiltins"]  # of `exit`
    return bool(called) and called[-1].resolve() in sources


def _sandbox(text: str | None) -> Any:
    """As `eval_async` takes it; None: the task's own."""
    kind, _, where = (text or "").partition(":")
    return None if not kind or kind == NONE else (kind, where) if where else kind


def _model(
    name: str,
    connection: Connection,
    noted: Noted,
    n_parallel: int,
    arguments: Mapping[str, Any],
    *,
    plays_role: bool,
) -> Any:
    from inspect_ai._util.registry import registry_create
    from inspect_ai.model import GenerateConfig, Model

    import harness.components.inspect.model  # noqa: F401 - registers it

    api: Any = registry_create("modelapi", "harness", model_name=name)
    api.connect(connection, noted, n_parallel=n_parallel, arguments=arguments, plays_role=plays_role)
    return Model(api, GenerateConfig())


def _role(
    role: str,
    chat: ChatConfig,
    config: InspectConfig,
    served: Connection,
    noted: Noted,
    n_parallel: int,
    opened: list[Connection],
) -> Any:
    """The model that plays a role."""
    provider, _, name = chat.model.partition("/")
    if chat.model == CHECKPOINT:
        return _model(f"{CHECKPOINT}-as-{role}", served, noted, n_parallel, chat.args, plays_role=True)
    if provider in DIRECT and chat.api_base:
        connection = FixedConnection(
            model=name,
            api_base=chat.api_base,
            api_key=chat.key(),
            timeout_s=config.request_timeout_s,
            attempts=config.attempts,
        )
        opened.append(connection)
        return _model(f"{role}/{name}", connection, noted, n_parallel, chat.args, plays_role=True)
    return _provided(chat, config)


def _provided(chat: ChatConfig, config: InspectConfig) -> Any:
    """A model of Inspect's own providers."""
    from inspect_ai.model import GenerateConfig, get_model

    return get_model(
        chat.model,
        base_url=chat.api_base,
        api_key=chat.key(),
        memoize=False,
        config=GenerateConfig(**{"max_retries": config.attempts - 1, **dict[str, Any](chat.args)}),
    )


class _Told:
    """Converts Inspect's samples to a component's Progress: an item is finished with the last epoch of its sample."""

    def __init__(self, progress: Progress, built: Built) -> None:
        self._progress, self._epochs, self._n = progress, built.epochs, built.n_items
        self._ends: dict[str, set[int]] = {}
        self._items = 0

    def known(self, earlier: Any) -> None:
        for sample in [] if earlier is None else earlier.samples or []:
            self._end(str(sample.id), sample.epoch, 0)

    def sample(self, sample: Any) -> None:
        self._end(str(sample.id), sample.epoch, sum(usage.total_tokens for usage in sample.model_usage.values()))

    def _end(self, name: str, epoch: int, tokens: int) -> None:
        ends = self._ends.setdefault(name, set())
        new = epoch not in ends
        ends.add(epoch)
        finished = int(new and len(ends) == self._epochs)
        self._items += finished
        self._progress.advance(items=finished, tokens=tokens)

    def rest(self) -> None:
        self._progress.advance(items=max(0, self._n - self._items), tokens=0)


def _plain(message: Any) -> str:
    """A message of Inspect's without its colours, in one line."""
    return " ".join(re.sub(r"\[/?[a-z_ ]+\]", "", str(message)).split())[:300]
