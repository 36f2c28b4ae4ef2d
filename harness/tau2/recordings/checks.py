"""The single checks in upstream's `reward_info`, each as a sentence and whether it was met. Pure; tolerates any value."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Check(NamedTuple):
    """One check of a component. `said`: the judge's reason, or the kind of an action."""

    component: str
    asked: str
    met: bool
    said: str = ""


def checks(info: Mapping[str, Any]) -> Iterator[Check]:
    """Every check in a verdict's record, component by component."""
    database = _mapping(info.get("db_check"))
    if isinstance(database.get("db_match"), bool):
        yield Check("DB", "the databases at the end equal those after the reference actions", database["db_match"])
    for one in _mappings(info.get("env_assertions")):
        asked = _mapping(one.get("env_assertion"))
        expected = "" if asked.get("assert_value", True) is True else " is false"
        yield Check("ENV_ASSERTION", f"{_call(asked, 'func_name')}{expected}", one.get("met") is True)
    for one in _mappings(info.get("action_checks")):
        action = _mapping(one.get("action"))
        who = "the user: " if action.get("requestor") == "user" else ""
        kind = one.get("tool_type")
        said = f"a {kind} action" if isinstance(kind, str) else ""
        yield Check("ACTION", f"{who}{_call(action, 'name')}", one.get("action_match") is True, said)
    for one in _mappings(info.get("communicate_checks")):
        said = text_of(one.get("justification"))
        yield Check("COMMUNICATE", f"the agent says {text_of(one.get('info'))}", one.get("met") is True, said)
    for one in _mappings(info.get("nl_assertions")):
        said = text_of(one.get("justification"))
        yield Check("NL_ASSERTION", text_of(one.get("nl_assertion")), one.get("met") is True, said)


def text_of(value: Any) -> str:
    """A str as it is, "" for None, JSON for anything else."""
    return value if isinstance(value, str) else "" if value is None else compact(value)


def compact(value: Any) -> str:
    """JSON in one line; for what cannot be JSON, the name of the error in parentheses."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError) as error:
        return f"({type(error).__name__})"


def _call(value: Mapping[str, Any], name: str) -> str:
    arguments = _mapping(value.get("arguments"))
    return f"{value.get(name)}({', '.join(f'{key}={compact(one)}' for key, one in arguments.items())})"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    yield from (_mapping(one) for one in value) if isinstance(value, list) else ()
