"""The named fields: one YAML file each, in this folder. A YAML file of the same form anywhere is a field as well."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from harness.core.errors import DataError, SpecError
from harness.tasks.reward_env.conversation import ConversationField
from harness.tasks.reward_env.field import PairField
from harness.tasks.reward_env.file_field import FileFormat, read_field
from harness.tasks.reward_env.hub_field import HubDefinition, load_hub_field
from harness.tasks.reward_env.stdlib_field import load_stdlib_field

FOLDER = Path(__file__).parent
YAML_SUFFIXES = (".yaml", ".yml")


class _Loader(yaml.SafeLoader):
    """lm-eval's YAML: `!function module.attribute` is kept as text, nothing is imported."""


_Loader.add_constructor("!function", lambda loader, node: str(node.value))


def _definition(path: Path) -> dict[str, Any] | None:
    """`metadata` of a field's YAML; None for a group or another kind of task."""
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"cannot read field definition {path}: {' '.join(str(error).split())}") from error
    metadata = value.get("metadata") if isinstance(value, dict) else None
    if not isinstance(metadata, dict) or not ({"hub", "stdlib", "tau2"} & set(metadata)):
        return None
    return metadata


@cache
def named_fields() -> dict[str, str]:
    """Name -> one-line description of every field that comes with harness."""
    found = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        definition = _definition(path)
        if definition is not None:
            found[path.stem] = str(definition.get("description", ""))
    return found


def is_named(field: str) -> bool:
    """Whether `field` is a name rather than a path. A path has a folder or an extension."""
    return field in named_fields() or not (Path(field).suffix or "/" in field)


def load_field(
    field: str,
    *,
    name: str | None = None,
    revision: str | None = None,
    data_files: Sequence[Path] = (),
    file_format: FileFormat = "auto",
    chat_template: Path | None = None,
) -> PairField | ConversationField:
    """Load a field by name, by the path of a definition (YAML), or by the path of a data file (JSON, JSONL).

    `revision` and `data_files` apply to fields on the hub, `file_format` and `chat_template` to data files.
    Raises SpecError for an unknown name or an option that does not apply, DataError for content that cannot be scored.
    """
    name = name or Path(field).stem
    if is_named(field):
        if field not in named_fields():
            known = ", ".join(named_fields())
            raise SpecError(f"no field is named {field!r}; named fields are {known}; or give the path of a JSONL file")
        path = FOLDER / f"{field}.yaml"
    else:
        path = Path(field)
    if path.suffix not in YAML_SUFFIXES:
        if revision is not None or data_files:
            raise SpecError(
                f"field {name!r}: revision and data_files go with fields on the hub, not with the file {path}"
            )
        return read_field(path, name=name, file_format=file_format, chat_template=chat_template)
    if chat_template is not None or file_format != "auto":
        raise SpecError(f"field {name!r}: format and chat_template go with data files, not with {field}")
    metadata = _definition(path)
    if metadata is None:
        raise DataError(f"{path} defines no field: it needs metadata.hub, stdlib or tau2 (docs/fields.md)")
    if "stdlib" in metadata:
        if revision is not None or data_files:
            raise SpecError(f"field {name!r}: revision and data_files do not apply to the standard library")
        return load_stdlib_field(metadata["stdlib"], name=name)
    if "tau2" in metadata:
        if revision is not None or data_files:
            raise SpecError(f"field {name!r}: revision and data_files do not apply to tau2's tasks")
        return _tau2_field(metadata["tau2"], path, name)
    if not isinstance(metadata["hub"], dict):
        raise DataError(f"{path}: metadata.hub must be a mapping with path, split, q and r (docs/fields.md)")
    chosen = revision or metadata.get("dataset_revision") or metadata["hub"].get("revision")
    try:
        definition = HubDefinition.model_validate({**metadata["hub"], "revision": chosen})
    except ValidationError as error:
        raise _malformed(path, "hub", error) from error
    return load_hub_field(definition, name=name, data_files=data_files)


def _tau2_field(value: Any, path: Path, name: str) -> ConversationField:
    from harness.tasks.reward_env.tau2_field import Tau2Definition, load_tau2_field

    try:
        definition = Tau2Definition.model_validate(value)
    except ValidationError as error:
        raise _malformed(path, "tau2", error) from error
    return load_tau2_field(definition, name=name)


def _malformed(path: Path, key: str, error: ValidationError) -> DataError:
    problem = error.errors()[0]
    where = ".".join(["metadata", key, *map(str, problem["loc"])])
    return DataError(f"{path}: {where}: {problem['msg']} (docs/fields.md)")
