"""The parser of tool calls follows from the chat template, else from the model type."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.engines.vllm.tool_parser import SIGNS, chat_template, choose_parser


@pytest.mark.parametrize(
    ("template", "model_type", "parser"),
    [
        ("<tool_call>\n{{ call | tojson }}\n</tool_call>", "llama", "hermes"),
        ("<tool_call>\n<function={{ name }}>", "qwen3_moe", "qwen3_coder"),
        ("{{ '<|python_tag|>' }}", "llama", "llama3_json"),
        ("[TOOL_CALLS]", "mistral", "mistral"),
        ("<tool_call>{{ name }}<arg_key>", "glm4_moe", "glm45"),
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


def test_the_template_is_read_where_it_is_saved(tmp_path: Path) -> None:
    assert chat_template(tmp_path) is None
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": "one"}))
    assert chat_template(tmp_path) == "one"
    config.write_text(
        json.dumps({"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]})
    )
    assert chat_template(tmp_path) == "t"
    (tmp_path / "chat_template.jinja").write_text("file")
    assert chat_template(tmp_path) == "file"
