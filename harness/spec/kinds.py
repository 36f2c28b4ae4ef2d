"""The table of component kinds: name -> "module:class", plus entry points of other packages.

A class named here is a Kind, and its instances are Components (core/component.py). Nothing is imported until it is asked for.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from harness.core.component import Kind
from harness.core.errors import SpecError

COMPONENTS = {
    "logprob": "harness.components.logprob.component:LogprobComponent",
    "lm_eval": "harness.components.lm_eval.component:LmEvalComponent",
    "tau2": "harness.components.tau2.component:Tau2Component",
    "inspect": "harness.components.inspect.kind:InspectKind",
}

ENTRY_POINT_GROUP = "harness.components"


@cache
def component_kinds() -> dict[str, str]:
    """Every known kind and where it lives. Raises SpecError if two packages claim one name."""
    table = dict(COMPONENTS)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name in table:
            raise SpecError(
                f"component kind {point.name!r} is registered twice: {table[point.name]} and {point.value}; "
                "uninstall one of the packages"
            )
        table[point.name] = point.value
    return table


def component_class(kind: str) -> type[Kind]:
    """The class behind a kind. Raises SpecError for an unknown kind, or naming the plugin and its own error."""
    target = component_kinds().get(kind)
    if target is None:
        raise SpecError(f"kind {kind!r} is unknown; this version has {', '.join(component_kinds())}")
    module, _, attribute = target.partition(":")
    try:
        found: type[Kind] = getattr(importlib.import_module(module), attribute)
        return found
    except Exception as error:
        raise SpecError(f"component kind {kind!r} ({target}) does not load: {type(error).__name__}: {error}") from error


def words_of(target: str) -> str:
    """What a kind measures: the first line of its module's docstring, read without running it; without one, the `target` itself."""
    try:
        found = importlib.util.find_spec(target.partition(":")[0])
        text = ast.get_docstring(ast.parse(Path(str(found and found.origin)).read_text(encoding="utf-8"))) or ""
    except (ImportError, OSError, SyntaxError, ValueError):
        text = ""
    first = text.partition("\n")[0].strip()
    return first.partition(". ")[2] or first if first.startswith("kind: ") else first or target
