"""What a task is built and asked in: the same draws every time, silence, and a process that is as before afterwards."""

from __future__ import annotations

import atexit
import base64
import contextlib
import gc
import io
import logging
import os
import random
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

Variables = Mapping[str, str | None]
"""Environment variables that a task sets; None: that it takes away."""

SEED = 0
"""Seed of random draws while a task is built."""
_Random = random.Random


class _Seeded(_Random):
    """`random.Random` that uses SEED where no seed is given."""

    def __init__(self, x: Any = None) -> None:
        super().__init__(SEED if x is None else x)


@contextlib.contextmanager
def fixed_draws() -> Iterator[None]:
    """Shuffles without a seed, which some three dozen evals do, give the same order every time, so that `limit` takes the same samples."""
    import numpy as np

    python, numpy = random.getstate(), np.random.get_state()
    random.seed(SEED)
    np.random.seed(SEED)
    random.Random = _Seeded  # type: ignore[misc]
    try:
        yield
    finally:
        random.Random = _Random  # type: ignore[misc]
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What tasks and Inspect print, and are warned of, is not part of a command's output."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(action="ignore"),
    ):
        yield


@contextlib.contextmanager
def as_before(changes: dict[str, str | None] | None = None) -> Iterator[None]:
    """Environment, loggers, folder and hook of the process are as before afterwards.

    `changes` is given the variables that were set or taken away within.
    """
    before, hook, folder = dict(os.environ), sys.excepthook, Path.cwd()
    loggers = [logging.getLogger(), logging.getLogger("inspect_ai")]
    kept = [(list(logger.handlers), logger.level) for logger in loggers]
    try:
        yield
    finally:
        now = dict(os.environ)
        found = {name: now.get(name) for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
        if changes is not None:
            changes |= found
        set_variables({name: before.get(name) for name in found})  # one by one: other threads read the others meanwhile
        sys.excepthook = hook
        for logger, (handlers, level) in zip(loggers, kept, strict=True):
            logger.handlers[:] = handlers
            logger.setLevel(level)
        os.chdir(folder)


def set_variables(changes: Variables) -> None:
    """Make changes of the environment that `as_before` noted."""
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextlib.contextmanager
def inspect_alone(variables: Variables | None = None) -> Iterator[None]:
    """Inspect as it is to be asked: it reads a .env, takes over loggers, warnings and hooks, and gives all of that back.

    Its trace, one file per process, is no file of the user's. `variables`: those that the task set while it was built.
    """
    with as_before(), _any_value(), warnings.catch_warnings():
        os.environ["INSPECT_TRACE_FILE"] = _trace_file()
        os.environ.pop("INSPECT_LOG_DIR", None)
        set_variables(variables or {})
        warnings.simplefilter("ignore")
        ours, enabled = gc.get_freeze_count() == 0, gc.isenabled()
        if ours:
            gc.freeze()  # what is there already need not be looked through for what Inspect leaves: a second in a large process
        try:
            yield
            gc.collect()  # streams of anyio that Inspect leaves open warn when they are collected: let that happen here
        finally:
            if ours:
                gc.unfreeze()
            if enabled:
                gc.enable()


@contextlib.contextmanager
def _any_value() -> Iterator[None]:
    """What a task keeps in a sample may hold bytes that are no text, or itself, over which Inspect's log would end the evaluation."""
    import pydantic_core

    replaced: list[tuple[Any, str, Any]] = []
    for function in (pydantic_core.to_jsonable_python, pydantic_core.to_json):
        for name, module in list(sys.modules.items()):
            if name.startswith("inspect_ai.") and getattr(module, function.__name__, None) is function:
                replaced.append((module, function.__name__, function))
                setattr(module, function.__name__, _tolerant(function))
    try:
        yield
    finally:
        for module, name, function in replaced:
            setattr(module, name, function)


def _tolerant(function: Callable[..., Any]) -> Callable[..., Any]:
    """One of pydantic's functions, for which bytes that are no UTF-8 are base64, and what holds itself ends there."""

    def tolerant(value: Any, **options: Any) -> Any:
        try:
            return function(value, **options)
        except ValueError as error:
            if "surrogates" in str(error):  # Inspect's own care
                raise
            return function(_as_text(value), **options)

    return tolerant


def _as_text(value: Any, within: tuple[int, ...] = ()) -> Any:
    """A value with its bytes as text, where they are none as base64, and without what holds itself (`within`: what it is in)."""
    if isinstance(value, bytes | bytearray):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return base64.b64encode(value).decode("ascii")
    if id(value) in within:
        return None
    within = (*within, id(value))
    if isinstance(value, BaseModel):
        return {name: _as_text(entry, within) for name, entry in value}
    if isinstance(value, Mapping):
        return {_as_text(key): _as_text(entry, within) for key, entry in value.items()}
    return [_as_text(entry, within) for entry in value] if isinstance(value, list | tuple | set | frozenset) else value


@cache
def _trace_file() -> str:
    """In a folder that goes away with the process; Inspect compresses it at exit, which is registered later and so runs before."""
    folder = tempfile.mkdtemp(prefix="harness-inspect-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(Path(folder) / "trace.log")
