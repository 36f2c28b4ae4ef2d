"""The settings of simulations under flat names, as tau2's command line and lm-eval's model arguments have them.

`agent_llm` is the key agent.model, `--agent-llm` its option. One table translates the names of values, and in messages the keys back
to names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from harness.core.errors import DataError, SpecError

_RENAMED: dict[str, str] = {
    **{
        f"{part}_{name}": f"{part}.{key}"
        for part in ("agent", "user")
        for name, key in (("llm", "model"), ("llm_args", "args"))
    },
    "nl_judge": "nl_judge.model",
    "reviewer": "reviewer.model",
    **{
        f"{name}_{key}": f"{part}.{key}"
        for name, part in (("agent", "agent"), ("user", "user"), ("judge", "nl_judge"), ("reviewer", "reviewer"))
        for key in ("api_base", "api_key_env")
    },
    "agent_instructions": "agent.instructions",
    "num_trials": "trials",
    "request_timeout": "request_timeout_s",
    "timeout": "timeout_s",
}
_SAID = re.compile(r"`([a-z_.]+)`|\bkey '([a-z_.]+)'|(?:(?<=^)|(?<=; ))([a-z_.]+)(?=: )")


@cache
def keys() -> Mapping[str, str]:
    """Flat name -> key, with a dot where it lies in another. A key of the settings that is not renamed is its own name."""
    from harness.tau2.settings import Tau2Settings

    renamed_keys = {part for key in _RENAMED.values() for part in (key, key.split(".")[0])}
    return {**_RENAMED, **{name: name for name in Tau2Settings.model_fields if name not in renamed_keys}}


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by flat name as nested keys for `settings_of`; those that are None are left out.

    Raises SpecError for options that are not JSON.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        if value is None:
            continue
        *path, key = keys()[name].split(".")
        inside = found.setdefault(path[0], {}) if path else found
        inside[key] = _object(keys()[name], value) if key == "args" else value
    return found


def _object(key: str, value: Any) -> dict[str, Any]:
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise SpecError(f"`{key}` {value!r} is not valid JSON ({error})") from error
    if not isinstance(found, Mapping):
        raise SpecError(f"`{key}` {value!r} is no JSON object of sampling options")
    return dict(found)


@contextmanager
def named(spell: Callable[[str], str]) -> Iterator[None]:
    """Within the block, messages of SpecError and DataError name `spell(flat name)` instead of keys."""
    try:
        yield
    except (SpecError, DataError) as error:
        raise type(error)(renamed(str(error), spell)) from error


def renamed(text: str, spell: Callable[[str], str]) -> str:
    """A message with every key replaced by `spell(its flat name)`."""
    names = {key: name for name, key in keys().items()} | {"user": "user_llm", "agent": "agent_llm"}

    def said(match: re.Match[str]) -> str:
        key = next(part for part in match.groups() if part)
        return spell(names[key]) if key in names else match[0]

    return _SAID.sub(said, text)


def as_option(name: str) -> str:
    """A flat name as an option of a command line."""
    return f"--{name.replace('_', '-')}"
