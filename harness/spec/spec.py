"""The spec: which components make the vector, and how they are measured. Knows no field, model or file but its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import Field, JsonValue, SerializeAsAny, ValidationError, field_validator, model_validator

from harness.core.component import ComponentConfig
from harness.core.defaults import Defaults
from harness.core.errors import SpecError, why_unreadable
from harness.core.measurement import Record, describe, kind_of
from harness.core.opening import OpenOptions
from harness.core.serving import ServeSettings
from harness.core.tokens import Overflow
from harness.spec.kinds import component_class, component_kinds

SPEC_SCHEMA: Final = "harness.spec/1"
RESERVED = ("q", "name", "task")
"""Names that braces hold elsewhere in a spec: a prompt's question, a data set's configuration and task."""
Dtype = Literal["auto", "float32", "bfloat16", "float16", "float64"]


class Spec(Record):
    """What a reward vector consists of. Every default is the paper's, or the safest."""

    schema_: Literal["harness.spec/1"] = Field(default=SPEC_SCHEMA, alias="schema", description="of the file; this one")
    overflow: Overflow = Field(default="fail", description="a pair longer than the context: fail, skip it, or cut q")
    standardize: str = Field(default="running", description="none, running, or the path of a frozen reference (JSON)")
    dtype: Dtype = Field(default="auto", description="weights are scored in this type; auto: as saved")
    device: str = Field(default="auto", description="auto: the first GPU if there is one, else cpu")
    batch_tokens: int | None = Field(
        default=None,
        ge=1,
        description="tokens per pack (per batch, padding included, where a model is not packed); default: by device",
    )
    seed: int = Field(default=0, ge=0, description="for components that draw at random; log-prob scoring draws nothing")
    trust_remote_code: bool = Field(default=False, description="run model code that comes with a checkpoint")
    allow_pickle: bool = Field(default=False, description="load .bin weights, which can run code of their own")
    vary: dict[str, list[bool | int | float | str]] = Field(
        default={},
        description="prompt variables and their values: {alpha} in a component's texts is replaced, one vector per value",
    )
    track: list[str] = Field(
        default=[], description="trackers that get every vector too: wandb, trackio, tensorboard, mlflow; NAME:PROJECT"
    )
    serve: ServeSettings = Field(default=ServeSettings(), description="the server of checkpoints that have to answer")
    components: list[SerializeAsAny[ComponentConfig]] = Field(
        min_length=1, description="the coordinates of the vector, in order"
    )

    @field_validator("components", mode="before")
    @classmethod
    def _by_kind(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [_component(index, item) for index, item in enumerate(value)]

    @field_validator("track", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("vary")
    @classmethod
    def _has_values(cls, value: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for name, values in value.items():
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or name in RESERVED:
                raise ValueError(
                    f"{name!r} is no name of a variable; letters, digits and _, and none of {', '.join(RESERVED)}"
                )
            if not values or len({str(one) for one in values}) < len(values):
                raise ValueError(f"{name} needs at least one value, and none twice")
        return value

    @model_validator(mode="after")
    def _names_are_unique(self) -> Spec:
        seen: set[str] = set()
        for component in self.components:
            if component.name in seen:
                raise ValueError(f"component name {component.name!r} is used twice; names must be unique")
            seen.add(component.name)
        return self

    def filled(self, values: Mapping[str, Any]) -> list[ComponentConfig]:
        """The components with `{name}` in their texts replaced by the values."""
        return [
            type(config).model_validate({**_filled(config.model_dump(), values), "name": config.name})
            for config in self.components
        ]

    def as_json(self) -> dict[str, JsonValue]:
        """As stored in run.json."""
        return self.model_dump(mode="json", by_alias=True)

    @property
    def opening(self) -> OpenOptions:
        """How checkpoints are loaded and served."""
        return OpenOptions(**{one.name: getattr(self, one.name) for one in fields(OpenOptions)})

    @property
    def defaults(self) -> Defaults:
        """What every component gets besides its own keys."""
        return Defaults(overflow=self.overflow, batch_tokens=self.batch_tokens, seed=self.seed, serve=self.serve)

    def weights(self) -> list[float]:
        """lambda of Eq. 6 in component order: as given, else 1/|D|."""
        return [1.0 / len(self.components) if c.weight is None else c.weight for c in self.components]


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    """Any JSON value with `{name}` replaced in every text of it."""
    if isinstance(value, str):
        for name, one in values.items():
            value = value.replace(f"{{{name}}}", str(one))
        return value
    if isinstance(value, dict):
        return {key: _filled(item, values) for key, item in value.items()}
    return [_filled(item, values) for item in value] if isinstance(value, list | tuple) else value


def _component(index: int, item: Any) -> Any:
    if isinstance(item, ComponentConfig):
        return item
    if not isinstance(item, dict):
        raise ValueError(
            f"components[{index}]: expected a mapping such as {{name: code, kind: logprob, field: code.jsonl}}"
        )
    where = f"components[{index}] ({item.get('name', 'unnamed')})"
    if "kind" not in item:
        raise ValueError(f"{where}: key 'kind' is missing; this version has {', '.join(component_kinds())}")
    try:
        config_class: type[ComponentConfig] = component_class(str(item["kind"])).Config
    except SpecError as error:
        raise ValueError(f"{where}: {error}") from error
    try:
        return config_class.model_validate(item)
    except ValidationError as error:
        raise ValueError(f"{where}: {describe(error, config_class)}") from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys silently; a spec must not."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            seen.add((key.tag, str(key.value)))
        return node


def load_spec(path: str | Path) -> Spec:
    """Read a spec file; relative paths in it are resolved against its folder. Raises SpecError."""
    path = Path(path)
    value = read_yaml(path, what="spec", hint="`harness schema --spec` prints the format")
    return parse_spec(value, where=str(path), folder=path.parent)


def read_yaml(path: Path, *, what: str, hint: str) -> Any:
    """A YAML file in which no key stands twice. `hint`: what to do where there is none. Raises SpecError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SpecError(f"no {what} at {path}; {hint}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot read {what} {path}: {why_unreadable(error)}") from error
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise SpecError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


def parse_spec(value: Any, *, where: str = "spec", folder: Path = Path()) -> Spec:
    """Validate a spec given as Python data; relative paths are resolved against `folder`. Raises SpecError."""
    if not isinstance(value, dict):
        raise SpecError(
            f"{where}: expected a mapping with `components`, found {kind_of(value)}; `harness schema --spec` prints the format"
        )
    declared = value.get("schema", SPEC_SCHEMA)
    if declared != SPEC_SCHEMA:
        raise SpecError(
            f"{where}: schema {declared!r} is not {SPEC_SCHEMA!r}; this version of harness reads only that one"
        )
    try:
        spec = Spec.model_validate(value)
    except ValidationError as error:
        raise SpecError(f"{where}: {describe(error, Spec)}") from error
    updates: dict[str, Any] = {
        "components": [component_class(c.kind).resolve(c, folder) for c in spec.components],
        "serve": spec.serve.resolved(folder),
    }
    if spec.standardize not in ("none", "running"):
        updates["standardize"] = str(folder / spec.standardize)
    return spec.model_copy(update=updates)


def default_spec() -> Spec:
    """What is scored without a spec: the standard library's code and prose, which need no network."""
    return parse_spec(
        {
            "components": [
                {"name": "stdlib_code", "kind": "logprob", "field": "stdlib_code", "role": "target"},
                {"name": "stdlib_prose", "kind": "logprob", "field": "stdlib_prose", "role": "source"},
            ]
        }
    )


def spec_of_fields(fields: Sequence[str]) -> Spec:
    """A spec of log-prob components, one per named field or data file, each named for its field. Raises SpecError.

    What a name cannot hold (a space, a bracket, an accent) is a `-` in it: `my data (1).jsonl` is `my-data-1`.
    """
    # `dataset_info.json#my_data` is named for the data set
    names = [f.rpartition(".json#")[2] if ".json#" in f else Path(f).stem for f in fields]
    names = [re.sub(r"^[^A-Za-z0-9]+|[^A-Za-z0-9_.+-]+$", "", name) for name in names]
    names = [re.sub(r"[^A-Za-z0-9_.+-]+", "-", name) or "field" for name in names]
    components = [{"name": name, "kind": "logprob", "field": f} for name, f in zip(names, fields, strict=True)]
    return parse_spec({"components": components}, where="--field")


def override(spec: Spec, **changes: Any) -> Spec:
    """The spec with command-line options in place of its keys; None leaves a key as it is. Raises SpecError."""
    given = {key: value for key, value in changes.items() if value is not None}
    try:
        return Spec.model_validate({**dict(spec), **given})
    except ValidationError as error:
        raise SpecError(f"command line: {describe(error, Spec)}") from error


def allow_code_execution(spec: Spec) -> Spec:
    """The spec with every component that runs programs of the model allowed to."""
    return spec.model_copy(update={"components": [config.allowing_code_execution() for config in spec.components]})


def spec_json_schema() -> dict[str, Any]:
    """JSON Schema of a spec, every known kind of component included."""
    schema = Spec.model_json_schema(by_alias=True)
    kinds = {kind: component_class(kind).Config.model_json_schema(by_alias=True) for kind in component_kinds()}
    schema["properties"]["components"]["items"] = {"anyOf": [{"$ref": f"#/$defs/{kind}"} for kind in kinds]}
    for definition in kinds.values():
        schema.setdefault("$defs", {}).update(definition.pop("$defs", {}))
    schema["$defs"].pop("ComponentConfig", None)
    schema["$defs"].update(kinds)
    return schema
