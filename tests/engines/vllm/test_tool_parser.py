"""The parser of tool calls follows from the chat template, else from the model type."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from vllm_here import needs_vllm, vllm_environment

from harness.engines.vllm.tool_parser import SIGNS, TYPED, TYPES, chat_template, choose_parser


@pytest.mark.parametrize(
    ("template", "model_type", "parser"),
    [
        ("<tool_call>\n{{ call | tojson }}\n</tool_call>", "llama", "hermes"),
        ("<tool_call>\n<function={{ name }}>", "qwen3_moe", "qwen3_coder"),
        ("{{ '<|python_tag|>' }}", "llama", "llama3_json"),
        ("[TOOL_CALLS]", "mistral", "mistral"),
        ("<tool_call>{{ name }}<arg_key>", "glm4_moe", "glm45"),
        ("<function_calls>", "olmo3", "olmo3"),
        ("<|START_ACTION|>", "cohere2", "cohere_command3"),
        ("<tool_call>{{ call | tojson }}", "ernie4_5_moe", "ernie45"),
        ("<tool_calls>", "hunyuan_v1_moe", "hunyuan_a13b"),
        ("<tool_calls>", "jamba", "jamba"),
        ("<steptml:invoke name=", "step3_text", "step3"),
        ("<\uff5cDSML\uff5cfunction_calls>", "deepseek_v32", "deepseek_v32"),
        ("<|tools_prefix|>", "apertus", "apertus"),
        ("<|function_call|>", "deepseek_v3", "gigachat3"),
        ("<tool_call>{{ call | tojson }}", "granitemoehybrid", "granite4"),
        ("{% if tools %}{{ tools }}{% endif %}", "llama", "llama3_json"),
        ("{% if tools %}{{ tools }}{% endif %}", "unheard_of", None),
        ("{{ messages }}", "llama", None),
        (None, "qwen3", None),
    ],
)
def test_what_is_chosen(template: str | None, model_type: str, parser: str | None) -> None:
    assert choose_parser(template, model_type) == parser


def test_no_sign_is_hidden_by_one_before_it() -> None:
    for signs, parser in SIGNS:
        assert choose_parser(" ".join(signs), None) == parser


@needs_vllm
def test_every_parser_of_the_table_is_one_of_vllms() -> None:
    environment = vllm_environment()
    assert environment is not None
    (found,) = environment.glob("lib/python3*/site-packages/vllm/tool_parsers/__init__.py")
    known = set(re.findall(r'^    "([\w-]+)": \(', found.read_text(), re.MULTILINE))
    ours = {row[-1] for row in SIGNS} | {row[-1] for row in TYPED} | set(TYPES.values())
    assert ours <= known, ours - known


def test_the_template_is_read_where_it_is_saved(tmp_path: Path) -> None:
    assert chat_template(tmp_path) is None
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": "one"}))
    assert chat_template(tmp_path) == "one"
    config.write_text(
        json.dumps({"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]})
    )
    assert chat_template(tmp_path) == "t"
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "processor's"}))
    assert chat_template(tmp_path) == "t"
    (tmp_path / "chat_template.jinja").write_text("file")
    assert chat_template(tmp_path) == "file"
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("for tools")
    assert chat_template(tmp_path) == "for tools"
