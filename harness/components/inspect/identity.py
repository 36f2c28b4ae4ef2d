"""What a task asks and how it is scored, as content: the definition of a component. No path, nothing of the machine."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel, JsonValue

from harness.components.inspect.config import HARNESS, InspectConfig
from harness.components.inspect.installed import inspect_version
from harness.components.inspect.task import Built
from harness.core.digest import digest_bytes, digest_json
from harness.core.serving import ServeSettings
from harness.tasks.suites.sandbox import RULES

TOOLS = re.compile(r"use_tools|/react\b|basic_agent|_agent\b")
"""Names of solvers and agents that give the model tools: Inspect's, and others that follow its naming."""
MEDIA = ("image", "audio", "video", "document")
"""Keys of a message's parts that name a file, or hold it as a data URI."""
ADDRESS = re.compile(r"\bat 0x[0-9a-f]+")
"""The address in the default repr of an object: its text does not identify its content."""
LIMITS = ("message_limit", "token_limit", "turn_limit", "time_limit", "working_limit")


def definition(config: InspectConfig, built: Built, serve: ServeSettings, *, metric: str) -> dict[str, JsonValue]:
    """Everything that changes a value: versions, code, arguments, samples, solver, scorers, options, models of other roles."""
    task = built.task
    return {
        "inspect_ai": inspect_version(),
        "package": list(built.package) if built.package else None,
        "task": built.name,
        "version": str(task.version),
        "code": digest_bytes(*(path.name.encode() + b"\0" + path.read_bytes() for path in built.sources)),
        "args": dict(config.args),
        "samples": _samples(built.samples),
        "epochs": [built.epochs, config.reducer or _plain(_names(task.epochs_reducer))],
        "solver": _plain(_spec(task.solver)),
        "setup": _plain([_spec(one) for one in _list(task.setup)]),
        "scorers": _plain([_spec(one) for one in _list(task.scorer)]),
        "metrics": _plain(_spec(task.metrics)),
        "value": [config.scorer, metric, config.higher_is_better, config.cluster],
        "limits": {name: _plain(getattr(config, name) or getattr(task, name, None)) for name in LIMITS},
        "generate": {**_set(task.config), **config.generate},
        "roles": {name: chat.identity() for name, chat in sorted(config.roles.items())},
        "sandbox": _sandbox(config, task.sandbox),
        "serve": serve.meaning(),
    }


def gives_tools(built: Built) -> bool:
    """Whether the checkpoint is given tools, judged by the names of the solvers."""
    if built.card is not None and "solver" in built.card.sandbox:
        return True
    return bool(TOOLS.search(json.dumps([_plain(_spec(built.task.solver)), _plain(_spec(built.task.setup))])))


def parts_of(built: Built) -> JsonValue:
    """Solvers, tools and scorers of a task by their registered names and arguments."""
    task = built.task
    return _plain([_spec(task.solver), *(_spec(one) for one in [*_list(task.setup), *_list(task.scorer)])])


def _samples(samples: tuple[Any, ...]) -> str:
    """Digest of the samples, files by their content. Their order does not count, since some tasks shuffle."""
    return digest_bytes(*sorted(digest_json(_sample(one)).encode() for one in samples))


def _sample(sample: Any) -> JsonValue:
    files: dict[str, JsonValue] = {name: _file(where) for name, where in (sample.files or {}).items()}
    return [
        _plain(sample.id),
        _messages(sample.input),
        _plain(sample.target),
        _plain(sample.choices),
        _plain(sample.metadata),
        files,
        None if sample.setup is None else _file(sample.setup),
        _place(sample.sandbox),
    ]


def _messages(value: Any) -> JsonValue:
    """A prompt without the ids that Inspect draws for its messages."""
    if isinstance(value, str):
        return value
    return [
        _media({k: v for k, v in one.model_dump(mode="json", exclude_none=True).items() if k != "id"}) for one in value
    ]


def _media(value: Any) -> JsonValue:
    """A message; an image, sound or other file in it by its content."""
    if isinstance(value, Mapping):
        return {
            str(key): _file(entry) if key in MEDIA and isinstance(entry, str) else _media(entry)
            for key, entry in value.items()
        }
    return [_media(entry) for entry in value] if isinstance(value, list) else _plain(value)


def _file(where: str) -> str:
    """Digest of the content of a file or folder, or of the text itself where it names none."""
    try:
        path = Path(where)
        if path.is_file():
            return digest_bytes(path.read_bytes())
        if path.is_dir():
            inner = sorted(one for one in path.rglob("*") if one.is_file())
            return digest_bytes(*(str(one.relative_to(path)).encode() + b"\0" + one.read_bytes() for one in inner))
    except (OSError, ValueError):
        pass
    return digest_bytes(where.encode())


def _sandbox(config: InspectConfig, own: Any) -> JsonValue:
    kind, _, where = (config.sandbox or "").partition(":")
    if kind == HARNESS:
        return [HARNESS, f"Python {sys.version_info.major}.{sys.version_info.minor}", RULES]
    if kind:
        return [kind, _file(where) if where else None]
    return _place(own)


def _place(own: Any) -> JsonValue:
    """A task's or sample's own sandbox, a configuration by its content."""
    if own is None:
        return None
    return [own.type, _file(own.config) if isinstance(own.config, str) else _plain(own.config)]


def _set(config: Any) -> dict[str, JsonValue]:
    """Options of generation that a task sets."""
    found = config.model_dump(mode="json", exclude_none=True)
    return {name: _plain(value) for name, value in found.items()}


def _list(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def _names(reducers: Any) -> Any:
    return [_spec(one) for one in _list(reducers)] or None


def _spec(part: Any) -> Any:
    """A solver, scorer, metric or tool by its registered name and arguments; the steps of a chain one by one."""
    from inspect_ai._util.registry import REGISTRY_PARAMS, is_registry_object, registry_info

    if isinstance(part, list | tuple):
        return [_spec(one) for one in part]
    if isinstance(part, Mapping):
        return {str(key): _spec(value) for key, value in part.items()}
    if is_registry_object(part):
        params = {name: _spec(value) for name, value in (getattr(part, REGISTRY_PARAMS, None) or {}).items()}
        return [registry_info(part).name, params, _spec(registry_info(part).metadata.get("metrics"))]
    if hasattr(part, "_solvers"):
        return [_spec(one) for one in part._solvers]
    return part


def _plain(value: Any) -> JsonValue:
    """A value as JSON; an object whose repr shows no content is represented by the name of its type."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((_plain(entry) for entry in value), key=str)
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, str | int | bool | type(None)):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else repr(value)
    if isinstance(value, bytes):
        return digest_bytes(value)
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="python"))
    if is_dataclass(value) and not isinstance(value, type):
        return _plain({one.name: getattr(value, one.name) for one in fields(value)})
    if callable(value):
        return str(getattr(value, "__qualname__", type(value).__qualname__))
    if callable(listed := getattr(value, "tolist", None)):  # numpy's and torch's
        return _plain(listed())
    if isinstance(value, PurePath):
        return _file(str(value)) if Path(value).exists() else value.as_posix()
    if isinstance(value, Enum):
        return [type(value).__name__, _plain(value.value)]
    said = repr(value)
    return type(value).__name__ if ADDRESS.search(said) else f"{type(value).__name__} {said}"
