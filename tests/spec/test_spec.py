"""The spec: what it means, what it refuses and how it says so, and its identity."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from samples import feed

from harness.core.errors import DataError, SpecError
from harness.reward_models.reference import fit_reference
from harness.spec.prepared import Prepared, prepare
from harness.spec.spec import Spec, default_spec, load_spec, override, parse_spec, spec_json_schema, spec_of_fields

GOOD = """
schema: harness.spec/1
components:
  - {name: code, kind: logprob, field: data/code.jsonl, role: source}
  - {name: prose, kind: logprob, field: data/prose.jsonl, weight: 0.25}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two small fields and no spec yet."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "code.jsonl").write_text('{"q": "def f():", "r": " return 1"}\n')
    (tmp_path / "data" / "prose.jsonl").write_text('{"q": "Once", "r": " upon a time"}\n{"q": "The", "r": " end"}\n')
    return tmp_path


def spec_in(folder: Path, text: str = GOOD) -> Path:
    path = folder / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def component(**changes: Any) -> dict[str, Any]:
    return {"name": "code", "kind": "logprob", "field": "code.jsonl", **changes}


def test_every_default_is_the_papers_or_the_safest() -> None:
    spec = parse_spec({"components": [component()]})
    assert spec.model_dump(by_alias=True) == {
        "schema": "harness.spec/1",
        "overflow": "fail",
        "standardize": "running",
        "dtype": "auto",
        "device": "auto",
        "batch_tokens": None,
        "seed": 0,
        "trust_remote_code": False,
        "allow_pickle": False,
        "vary": {},
        "track": [],
        "serve": {
            "command": None,
            "url": None,
            "api_key_env": None,
            "args": [],
            "env": {},
            "tool_call_parser": None,
            "reasoning_parser": None,
            "chat_template": None,
            "max_model_len": None,
            "startup_timeout_s": 900.0,
            "parallel": 64,
            "max_loras": 4,
            "verify": True,
        },
        "components": [
            {
                "name": "code",
                "kind": "logprob",
                "role": "target",
                "weight": None,
                "allowed_loss": None,
                "field": "code.jsonl",
                "format": "auto",
                "chat_template": None,
                "revision": None,
                "data_files": [],
                "prompt": None,
                "system": None,
                "limit": None,
            }
        ],
    }


def test_weights_default_to_one_over_the_number_of_components() -> None:
    names = ["a", "b", "c", "d"]
    assert parse_spec({"components": [component(name=name) for name in names]}).weights() == [0.25] * 4
    given = parse_spec(
        {"components": [component(name="a", weight=2), component(name="b"), component(name="c", weight=0)]}
    )
    assert given.weights() == [2.0, 1 / 3, 0.0]


def test_without_a_spec_the_offline_fields_are_scored() -> None:
    assert [(c.name, c.role) for c in default_spec().components] == [
        ("stdlib_code", "target"),
        ("stdlib_prose", "source"),
    ]


def test_fields_on_the_command_line_are_components_named_for_them() -> None:
    spec = spec_of_fields(["mmlu_val", "data/my.jsonl"])
    assert [(c.name, c.model_dump()["field"]) for c in spec.components] == [
        ("mmlu_val", "mmlu_val"),
        ("my", "data/my.jsonl"),
    ]
    with pytest.raises(SpecError, match="--field: component name 'x' is used twice"):
        spec_of_fields(["a/x.jsonl", "b/x.jsonl"])


@pytest.mark.parametrize(
    ("file", "name"),
    [("my data (1).jsonl", "my-data-1"), ("_val.jsonl", "val"), ("données.jsonl", "donn-es"), ("数据.jsonl", "field")],
)
def test_a_file_of_any_name_can_be_a_field(file: str, name: str) -> None:
    assert [(c.name, c.model_dump()["field"]) for c in spec_of_fields([file]).components] == [(name, file)]


def test_paths_are_relative_to_the_spec(folder: Path) -> None:
    text = GOOD.replace("role: source", "role: source, chat_template: t.jinja, data_files: [a*.json]")
    spec = load_spec(spec_in(folder, f"standardize: ref.json\n{text}"))
    first = spec.components[0].model_dump()
    assert first["field"] == str(folder / "data" / "code.jsonl")
    assert first["chat_template"] == str(folder / "t.jinja")
    assert first["data_files"] == [str(folder / "a*.json")]
    assert spec.standardize == str(folder / "ref.json")


def test_a_named_field_is_not_a_path(folder: Path) -> None:
    spec = load_spec(spec_in(folder, "components: [{name: c, kind: logprob, field: stdlib_code}]"))
    assert spec.components[0].model_dump()["field"] == "stdlib_code"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a mapping with `components`, found nothing"),
        ("- a", "expected a mapping with `components`, found list"),
        ("a: b: c", "not valid YAML: mapping values are not allowed here .* line 1"),
        ("overflow: skip", "key 'components' is missing"),
        ("components: []", "components: List should have at least 1 item"),
        ("components: {name: a}", "components: expected a list"),
        ("components: [3]", r"components\[0\]: expected a mapping such as {name: code"),
        (GOOD.replace("spec/1", "spec/2"), "schema 'harness.spec/2' is not 'harness.spec/1'"),
        (GOOD + "overfow: skip", "unknown key 'overfow'; did you mean 'overflow'?"),
        (GOOD + "zzz: 1", "unknown key 'zzz'; known keys: schema, overflow, standardize"),
        (GOOD.replace("weight", "wieght"), r"components\[1\] \(prose\): unknown key 'wieght'; did you mean 'weight'\?"),
        (GOOD.replace("field: data/code.jsonl, ", ""), r"components\[0\] \(code\): key 'field' is missing"),
        (GOOD.replace("name: prose", "name: code"), "component name 'code' is used twice; names must be unique"),
        (GOOD.replace("name: prose", "name: a b"), r"components\[1\] \(a b\): name: String should match pattern"),
        (GOOD.replace("weight: 0.25", "weight: .nan"), r"components\[1\] \(prose\): weight: .*finite number"),
        (GOOD.replace("weight: 0.25", "weight: -.inf"), "weight: .*finite number"),
        *(
            (GOOD.replace("weight: 0.25", f"weight: {value}"), "weight: .*(is no number|is beyond)")
            for value in ("true", "false", "yes", "1.0e+308", "-1.0e+300", "5.0e-324", "'0.25'", "[1]")
        ),
        (GOOD.replace("role: source", "role: both"), "role: Input should be 'source' or 'target'"),
        (
            GOOD.replace("kind: logprob, field: data/prose", "kind: logprop, field: data/prose"),
            "kind 'logprop' is unknown; this version has logprob",
        ),
        (GOOD.replace("kind: logprob", "kind: [logprob]"), r"components\[0\] \(code\): kind .* is unknown"),
        (
            GOOD.replace("kind: logprob, ", ""),
            r"components\[0\] \(code\): key 'kind' is missing; this version has logprob",
        ),
        (GOOD + "overflow: cut", "overflow: Input should be 'fail', 'skip' or 'truncate'"),
        (GOOD + "batch_tokens: 0", "batch_tokens: Input should be greater than or equal to 1"),
        (GOOD + "seed: -1", "seed: Input should be greater than or equal to 0"),
        (GOOD + "overflow: fail\noverflow: skip", "key 'overflow' stands twice .* line 7"),
        (GOOD.replace("name: code", "name: code, name: x"), "key 'name' stands twice"),
        (GOOD + "1: 2", "1: Keys should be strings"),
        ("\0", "not valid YAML: unacceptable character"),
        ("components: &a [*a]", "expected a mapping"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line_that_says_where(folder: Path, text: str, message: str) -> None:
    path = spec_in(folder, text)
    with pytest.raises(SpecError, match=message) as caught:
        load_spec(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_every_problem_of_a_component_is_named_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec({"components": [{"kind": "logprob", "fild": "x", "limit": 0}], "dytpe": "auto"})
    for problem in ("key 'name' is missing", "did you mean 'field'", "limit: Input", "did you mean 'dtype'"):
        assert problem in str(caught.value)


def test_a_missing_spec_an_unreadable_one_and_one_that_is_not_utf_8(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no spec at .*none.yaml; `harness schema --spec` prints the format"):
        load_spec(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="cannot read spec"):
        load_spec(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"components: \xe9")
    with pytest.raises(SpecError, match=r"cannot read spec .*UTF-8"):
        load_spec(tmp_path / "latin.yaml")


def test_yaml_anchors_and_merge_keys_work(folder: Path) -> None:
    text = "components: [&c {name: a, kind: logprob, field: stdlib_code, limit: 3}, {<<: *c, name: b}]"
    assert [(c.name, c.model_dump()["limit"]) for c in load_spec(spec_in(folder, text)).components] == [
        ("a", 3),
        ("b", 3),
    ]


def test_command_line_options_go_over_the_spec_and_are_checked_like_it() -> None:
    spec = parse_spec({"components": [component()], "overflow": "skip"})
    changed = override(spec, dtype="float32", overflow=None, batch_tokens=64)
    assert (changed.dtype, changed.overflow, changed.batch_tokens) == ("float32", "skip", 64)
    assert changed.components == spec.components
    with pytest.raises(SpecError, match="command line: dtype: Input should be 'auto'"):
        override(spec, dtype="int8")


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = spec_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_published_schema_accepts_good_specs(validator: Any, folder: Path) -> None:
    validator.validate(yaml.safe_load(GOOD))
    validator.validate(
        {"components": [component(limit=3, format="pairs")], "standardize": "none", "batch_tokens": None}
    )
    validator.validate(default_spec().model_dump(mode="json", by_alias=True))


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"components": []},
        {"components": [component()], "overfow": "skip"},
        {"components": [component(fild="x")]},
        {"components": [component(kind="tau3")]},
        {"components": [{"name": "code", "kind": "logprob"}]},
        {"components": [component(role="both")]},
        {"components": [component(name="a b")]},
        {"components": [component()], "schema": "harness.spec/2"},
        {"components": [component()], "seed": -1},
    ],
)
def test_the_published_schema_refuses_what_the_reader_refuses(validator: Any, value: dict[str, Any]) -> None:
    assert not validator.is_valid(value)
    with pytest.raises(SpecError):
        parse_spec(value)


def prepared(folder: Path, text: str = GOOD) -> Prepared:
    return prepare(load_spec(spec_in(folder, text)))


def test_formatting_comments_and_key_order_do_not_change_a_specs_identity(folder: Path) -> None:
    same = f"""
# the same, written otherwise
components:
- field: "data/code.jsonl"
  role: source
  name: code
  weight: 0.5   # 1/|D|, which is the default
  kind: logprob
- {{kind: logprob, weight: 25.0e-2, role: target, field: {folder}/data/../data/prose.jsonl, name: prose}}
overflow: fail
"""
    assert prepared(folder, same).digest == prepared(folder).digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("weight: 0.25", "weight: 0.5"),
        ("name: prose", "name: text"),
        ("role: source", "role: target"),
        ("components:", "overflow: skip\ncomponents:"),
        ("components:", "dtype: bfloat16\ncomponents:"),
        ("components:", "standardize: none\ncomponents:"),
        ("components:", "seed: 1\ncomponents:"),
        ("weight: 0.25", "weight: 0.25, limit: 1"),
        ("data/code.jsonl", "data/prose.jsonl"),
    ],
)
def test_another_meaning_is_another_identity(folder: Path, old: str, new: str) -> None:
    assert prepared(folder, GOOD.replace(old, new)).digest != prepared(folder).digest


def test_the_order_of_components_is_part_of_the_meaning(folder: Path) -> None:
    lines = GOOD.splitlines()
    turned = "\n".join([*lines[:3], lines[4], lines[3]])
    assert prepared(folder, turned).digest != prepared(folder).digest


@pytest.mark.parametrize("text", ["device: cpu", "batch_tokens: 64"])
def test_how_it_is_computed_does_not_change_a_specs_identity(folder: Path, text: str) -> None:
    assert prepared(folder, f"{text}\n{GOOD}").digest == prepared(folder).digest


def test_changed_content_is_another_identity_and_a_moved_file_is_not(folder: Path) -> None:
    before = prepared(folder)
    (folder / "data" / "code.jsonl").rename(folder / "moved.jsonl")
    moved = GOOD.replace("data/code.jsonl", "moved.jsonl")
    assert prepared(folder, moved).digest == before.digest
    (folder / "moved.jsonl").write_text('{"q": "def f():", "r": " return 2"}\n')
    assert prepared(folder, moved).digest != before.digest


def test_a_frozen_reference_is_part_of_the_identity_by_its_id(folder: Path) -> None:
    before = prepared(folder)
    definitions = dict(before.rows[0].definitions)
    rows = [{"code": -1.0, "prose": -2.0}, {"code": -2.0, "prose": -3.0}, {"code": -9.0, "prose": -9.0}]
    for name, some in (("a.json", rows[:2]), ("same.json", rows[:2]), ("b.json", rows)):
        reference = fit_reference(list(feed(*some, definitions=definitions)))
        (folder / name).write_text(reference.model_dump_json(by_alias=True))
    digests = [prepared(folder, f"standardize: {name}\n{GOOD}").digest for name in ("a.json", "same.json", "b.json")]
    assert digests[0] == digests[1]
    assert len({before.digest, *digests}) == 3


def test_a_reference_that_cannot_be_used_is_refused_before_scoring(folder: Path) -> None:
    text = f"standardize: ref.json\n{GOOD}"
    with pytest.raises(SpecError, match=r"no reference at .*ref.json; `harness fit-reference"):
        prepared(folder, text)
    (folder / "ref.json").write_text("{")
    with pytest.raises(SpecError, match="cannot read reference"):
        prepared(folder, text)
    (folder / "ref.json").write_text(json.dumps({"schema": "harness.reference/1"}))
    with pytest.raises(DataError, match=r"ref.json is not a valid reference"):
        prepared(folder, text)
    reference = fit_reference(list(feed({"code": -1.0}, {"code": -2.0})))
    (folder / "ref.json").write_text(reference.model_dump_json(by_alias=True))
    with pytest.raises(SpecError, match="the reference was fitted on another 'code'"):
        prepared(folder, text)


def test_a_spec_is_plain_data_that_survives_json(folder: Path) -> None:
    spec = load_spec(spec_in(folder))
    again = parse_spec(json.loads(spec.model_dump_json(by_alias=True)))
    assert again == spec
    assert isinstance(again, Spec)


def test_serve_paths_are_the_specs_and_a_name_on_the_path_stays_one(tmp_path: Path) -> None:
    (tmp_path / "vllm-env").mkdir()
    field = {"name": "f", "kind": "logprob", "field": "stdlib_code"}

    def serve(**keys: Any) -> Any:
        return parse_spec({"components": [field], "serve": keys}, folder=tmp_path).serve

    assert serve(command="vllm-env").command == str(tmp_path / "vllm-env")
    assert serve(command="../env/bin/vllm").command == str(tmp_path / "../env/bin/vllm")
    assert serve(command="/opt/env").command == "/opt/env"
    assert serve(command="vllm").command == "vllm"
    assert serve(chat_template="chat.jinja").chat_template == str(tmp_path / "chat.jinja")


def test_a_server_is_of_one_kind_and_holds_no_key() -> None:
    for serve, words in (
        ({"url": "http://h/v1", "command": "vllm"}, "command cannot be given"),
        ({"env": {"VLLM_API_KEY": "s"}}, "api_key_env"),
        ({"commnad": "x"}, "did you mean|commnad"),
    ):
        with pytest.raises(SpecError, match=words):
            parse_spec({"components": [component()], "serve": serve})
