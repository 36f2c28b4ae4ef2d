"""The page of every key that a spec or a policy takes, made from the records that read them (docs/keys.md is this text)."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from harness.core.component import ComponentConfig
from harness.reward_models.policy import Policy
from harness.spec.kinds import COMPONENTS, component_class
from harness.spec.spec import Spec

HEAD = """# Keys

Every key of a spec and of a gate's policy: `harness schema --keys` prints this page. An unknown key is an error that names the nearest
known one.
"""


def keys_page() -> str:
    """Markdown: a table per record; a nested record has its table once, after the first record that uses it."""
    told: set[type[BaseModel]] = set()
    parts = [HEAD, *_tables("A spec", Spec, told), *_tables("A component, of any kind", ComponentConfig, told)]
    for kind in COMPONENTS:
        parts += _tables(f"kind: {kind}", component_class(kind).Config, told, without=set(ComponentConfig.model_fields))
    return "\n".join([*parts, *_tables("A policy", Policy, told)])


def _tables(
    title: str, record: type[BaseModel], told: set[type[BaseModel]], *, without: typing.AbstractSet[str] = frozenset()
) -> Iterator[str]:
    told.add(record)
    fields = {name: field for name, field in record.model_fields.items() if name not in without}
    rows = [f"| `{field.alias or name}` | {_default(field)} | {_meaning(field)} |" for name, field in fields.items()]
    yield "\n".join([f"## {title}\n", "| key | default | meaning |", "|---|---|---|", *rows, ""])
    for name, field in fields.items():
        for inner in _records(field.annotation):
            if inner not in told and inner is not ComponentConfig:
                yield from _tables(f"`{name}` of {title[0].lower()}{title[1:]}", inner, told)


def _records(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _records(inner)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return ""
    return f"`{json.dumps(value)}`"


def _meaning(field: FieldInfo) -> str:
    choices = typing.get_args(field.annotation) if typing.get_origin(field.annotation) is typing.Literal else ()
    text = (field.description or "").replace("|", "\\|")
    shown = " or ".join(f"`{choice}`" for choice in choices) if len(choices) > 1 else ""
    return f"{text} ({shown})" if text and shown else text or shown
