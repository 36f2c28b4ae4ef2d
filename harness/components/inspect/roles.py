"""Roles of other models that a task's code asks for, found in its source text.

Without a model for a role, Inspect asks the checkpoint.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator

from harness.components.inspect.config import InspectConfig
from harness.components.inspect.identity import parts_of
from harness.components.inspect.task import Built
from harness.core.errors import SpecError


def refuse_unnamed(config: InspectConfig, built: Built) -> None:
    """Raise SpecError for a role that the task's solvers, tools or scorers ask for and that has no model."""
    if built.card is not None:
        return  # checks.py has compared the eval's roles before it was built
    played = {*config.roles, *(built.task.model_roles or {})}
    missing = sorted(set(_asked(built)) - played)
    if missing:
        raise SpecError(
            f"component {config.name}: {config.task} asks other models as {', '.join(missing)}, and without one the checkpoint would be "
            f"asked; name them: roles: {{{missing[0]}: {{model: hosted_vllm/NAME, api_base: ...}}}}, or model: checkpoint where that is meant"
        )


def _asked(built: Built) -> Iterator[str]:
    """Roles in calls `get_model(role="...")` without a default, within the functions that the task is made of."""
    names = {*re.findall(r"[\w.-]+", json.dumps(parts_of(built))), built.name}
    for path in built.sources:
        for function in ast.parse(path.read_bytes()).body:
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or function.name not in names:
                continue
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and (role := _role(call)) is not None:
                    yield role


def _role(call: ast.Call) -> str | None:
    called = call.func
    name = called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else None
    given = {one.arg: one.value for one in call.keywords}
    role = given.get("role")
    if name != "get_model" or "default" in given or call.args or not isinstance(role, ast.Constant):
        return None
    return role.value if isinstance(role.value, str) else None
