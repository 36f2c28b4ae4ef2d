"""A function's signature and docstring as a tool description for a model. Knows Google-style docstrings, nothing of tau2."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, get_type_hints

SECTION = re.compile(r"^(Args|Returns|Raises|Note|Notes|Example|Examples):\s*$")
ARGUMENT = re.compile(r"^\s*(\w+)(?:\s*\([^)]*\))?:\s*(.*)$")


def described(docstring: str) -> tuple[str, dict[str, str]]:
    """The text before the first section, and the text of each argument."""
    sections: dict[str, list[str]] = {"": []}
    current = ""
    for line in inspect.cleandoc(docstring).splitlines():
        heading = SECTION.match(line)
        current = heading[1] if heading else current
        sections.setdefault(current, [])
        if not heading:
            sections[current].append(line)
    arguments: dict[str, str] = {}
    last = ""
    for line in inspect.cleandoc("\n".join(sections.get("Args", []))).splitlines():
        found = ARGUMENT.match(line) if not line.startswith(" ") else None
        if found:
            last = found[1]
            arguments[last] = found[2].strip()
        elif last and line.strip():
            arguments[last] = f"{arguments[last]} {line.strip()}".strip()
    return "\n".join(sections[""]).strip(), arguments


def function_schema(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    """`{"type": "function", "function": {...}}` with JSON Schema parameters."""
    from pydantic import Field, create_model

    text, arguments = described(inspect.getdoc(function) or "")
    hints = get_type_hints(function)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self":
            continue
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[parameter.name] = (
            hints.get(parameter.name, Any),
            Field(default, description=arguments.get(parameter.name)),
        )
    parameters = create_model("parameters", **fields).model_json_schema()
    return {"type": "function", "function": {"name": name, "description": text, "parameters": parameters}}
