"""Checks the generation options of a component and its roles."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from pydantic import JsonValue, ValidationError

from harness.components.inspect.installed import loader
from harness.core.errors import SpecError
from harness.core.measurement import first_problem


def check_options(options: Mapping[str, JsonValue], where: str) -> None:
    """Raise SpecError for options of generation that Inspect does not know, or that are set by a key of the component."""
    loader()
    from inspect_ai.model import GenerateConfig

    taken = {
        **dict.fromkeys(("max_connections", "adaptive_connections"), "max_concurrency"),
        **dict.fromkeys(("max_retries",), "attempts"),
        **dict.fromkeys(("timeout", "attempt_timeout", "stream_idle_timeout"), "request_timeout_s"),
        **dict.fromkeys(("cache", "batch", "fallback_models"), ""),
    }
    for name in options:
        if name not in GenerateConfig.model_fields:
            near = difflib.get_close_matches(name, GenerateConfig.model_fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise SpecError(f"{where}: Inspect has no option {name!r}{hint}")
        if name in taken:
            instead = f"use the component's {taken[name]}" if taken[name] else "every checkpoint is asked anew, itself"
            raise SpecError(f"{where}: {name} is not for a component; {instead}")
    try:
        GenerateConfig.model_validate(options)
    except ValidationError as error:
        raise SpecError(f"{where}: {first_problem(error)}") from error
