"""Fields by name, by definition and by file: what goes where, and what does not go together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.core.errors import DataError, SpecError
from harness.tasks.reward_env.catalog import FOLDER, is_named, load_field, named_fields

OWN_DEFINITION = """
include: _field_yaml
task: capitals
metadata:
  description: capitals of the world
  hub: {path: my/capitals, split: test, q: "{{ country }}:", r: " {{ capital }}"}
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "capitals.jsonl"
    path.write_text('{"country": "France", "capital": "Paris"}\n{"country": "Italy", "capital": "Rome"}\n')
    return path


def definition(tmp_path: Path, text: str = OWN_DEFINITION, name: str = "capitals.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_every_named_field_has_a_description_and_groups_are_not_fields() -> None:
    assert set(named_fields()) == {
        "github_val_1000",
        "math_train_1500",
        "mmlu_val",
        "stdlib_code",
        "stdlib_prose",
        "tau2_airline_actions",
        "tau2_retail_actions",
        "tau2_telecom_actions",
    }
    assert all(named_fields().values())
    assert not any("\n" in text for text in named_fields().values())


def test_fields_of_tool_calls_say_that_they_are_not_validated() -> None:
    for name, words in named_fields().items():
        assert ("not validated" in words) == name.endswith("_actions")


@pytest.mark.parametrize("name", named_fields())
def test_every_definition_is_an_lm_eval_task_of_the_same_name(name: str) -> None:
    text = (FOLDER / f"{name}.yaml").read_text()
    value = yaml.safe_load(text.replace("!function", ""))
    assert value["task"] == name
    assert value["include"] == "_field_yaml"
    assert (FOLDER / value["include"]).is_file()


@pytest.mark.parametrize(
    ("field", "named"),
    [
        ("mmlu_val", True),
        ("no_such_field", True),
        ("data/x.jsonl", False),
        ("x.jsonl", False),
        ("./x", False),
        ("data/x", False),
        ("/data/x", False),
        ("fields/own.yaml", False),
        ("own.yml", False),
        ("a b.json", False),
    ],
)
def test_a_path_has_a_folder_or_an_extension(field: str, named: bool) -> None:
    assert is_named(field) is named


def test_an_unknown_name_lists_the_known_ones_and_what_else_a_field_can_be() -> None:
    with pytest.raises(SpecError) as caught:
        load_field("mmlu")
    message = str(caught.value)
    assert message.startswith("no field is named 'mmlu'; named fields are github_val_1000, math_train_1500, mmlu_val")
    assert message.endswith("or give the path of a JSONL file")


def test_a_data_file_is_named_for_itself_unless_given_a_name(tmp_path: Path) -> None:
    path = tmp_path / "my field.jsonl"
    path.write_text('{"q": "a", "r": "b"}\n')
    assert load_field(str(path)).name == "my field"
    assert load_field(str(path), name="prose").name == "prose"


def test_a_definition_of_ones_own_is_a_field(tmp_path: Path, data: Path) -> None:
    field = load_field(str(definition(tmp_path)), data_files=[data])
    assert field.name == "capitals"
    assert [(pair.q, pair.r) for pair in field.pairs(None)] == [("France:", " Paris"), ("Italy:", " Rome")]
    assert field.source["dataset"] == "my/capitals"


@pytest.mark.parametrize(
    ("metadata", "option", "expected"),
    [
        ({}, None, None),
        ({"dataset_revision": "v1"}, None, "v1"),
        ({"hub": {"revision": "v0"}}, None, "v0"),
        ({"dataset_revision": "v1", "hub": {"revision": "v0"}}, None, "v1"),
        ({"dataset_revision": "v1"}, "v2", "v2"),
    ],
)
def test_the_revision_asked_for_is_recorded(
    tmp_path: Path, data: Path, metadata: dict[str, Any], option: str | None, expected: str | None
) -> None:
    value = yaml.safe_load(OWN_DEFINITION)
    hub = {**value["metadata"]["hub"], **metadata.pop("hub", {})}
    value["metadata"] = {**value["metadata"], **metadata, "hub": hub}
    path = definition(tmp_path, yaml.safe_dump(value))
    assert load_field(str(path), data_files=[data], revision=option).source["revision"] == expected


def test_a_definition_in_a_folder_with_odd_characters(tmp_path: Path, data: Path) -> None:
    folder = tmp_path / "fields [v1] é & 100%"
    folder.mkdir()
    local = shutil.copy(data, folder / "a copy*.jsonl")
    assert len(load_field(str(definition(folder)), data_files=[Path(local)])) == 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"revision": "main"}, "revision and data_files go with fields on the hub, not with the file"),
        ({"data_files": [Path("x.jsonl")]}, "revision and data_files go with fields on the hub, not with the file"),
    ],
)
def test_options_of_the_hub_do_not_go_with_a_data_file(tmp_path: Path, options: dict[str, Any], expected: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"q": "a", "r": "b"}\n')
    with pytest.raises(SpecError, match=expected):
        load_field(str(path), **options)


@pytest.mark.parametrize("options", [{"chat_template": Path("x.jinja")}, {"file_format": "messages"}])
@pytest.mark.parametrize("field", ["mmlu_val", "stdlib_code"])
def test_options_of_data_files_do_not_go_with_a_named_field(field: str, options: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=f"field '{field}': format and chat_template go with data files"):
        load_field(field, **options)


@pytest.mark.parametrize("options", [{"revision": "main"}, {"data_files": [Path("x.jsonl")]}])
def test_the_standard_library_has_no_revision_and_no_files(options: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="revision and data_files do not apply to the standard library"):
        load_field("stdlib_code", **options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("group: mine\ntask: [a, b]\n", "defines no field: it needs metadata.hub"),
        ("metadata: {version: 1}\n", "defines no field: it needs metadata.hub"),
        ("- 1\n", "defines no field: it needs metadata.hub"),
        ("", "defines no field: it needs metadata.hub"),
        ("metadata: {hub: cais/mmlu}\n", "metadata.hub must be a mapping with path, split, q and r"),
        ("metadata: {hub: {path: a/b, split: test, q: x}}\n", "metadata.hub.r: Field required"),
        ("metadata: {hub: {path: a/b, split: test, q: x, r: y, sampel: 3}}\n", "metadata.hub.sampel: Extra inputs"),
        ("metadata: {hub: {path: a/b, split: test, q: x, r: y, sample: 0}}\n", "metadata.hub.sample: "),
        ("metadata: [unclosed\n", "cannot read field definition"),
    ],
)
def test_a_definition_with_a_fault_is_named_in_one_line(tmp_path: Path, text: str, expected: str) -> None:
    path = definition(tmp_path, text)
    with pytest.raises(DataError) as caught:
        load_field(str(path))
    message = str(caught.value)
    assert str(path) in message
    assert expected in message
    assert "\n" not in message


def test_a_definition_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read field definition .*none\.yaml"):
        load_field(str(tmp_path / "none.yaml"))


def test_a_function_tag_is_kept_as_text_and_nothing_is_imported(tmp_path: Path, data: Path) -> None:
    text = f"{OWN_DEFINITION}doc_to_text: !function no.such.module.at_all\n"
    assert len(load_field(str(definition(tmp_path, text)), data_files=[data])) == 2


def test_a_field_can_be_one_json_array(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{"q": "a", "r": "b"}]))
    assert len(load_field(str(path))) == 1
