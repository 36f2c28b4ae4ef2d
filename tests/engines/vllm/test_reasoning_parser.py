"""The parser of thoughts follows from the chat template and the model type, and is none where the tokenizer could not bear it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from vllm_here import needs_vllm, vllm_environment

from harness.engines.vllm.reasoning_parser import ANY, SIGNS, TYPES, choose_reasoning_parser


def tokenizer(folder: Path, *added: str) -> Path:
    folder.mkdir(exist_ok=True)
    value = {
        "added_tokens": [{"id": number, "content": word} for number, word in enumerate(added)],
        "model": {"vocab": {"a": 0}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(value), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("template", "model_type", "parser"),
    [
        ("{{ '<think>' }}", "qwen3", "qwen3"),
        ("{{ '<think>' }}", "qwen2", "qwen3"),
        ("{{ tools }} <tool_call> <think>", "llama", "qwen3"),
        ("{{ tools }} [TOOL_CALLS] <think>", "mistral", None),
        ("{{ '<think>' }}", "glm4_moe", "glm45"),
        ("{{ '<think>' }}", None, "qwen3"),
        ("<minimax:tool_call> <think>", "minimax_m2", "minimax_m2"),
        ("Here is my thought process:", "granite", "granite"),
        ("{{ messages }}", "qwen3", None),
        (None, "qwen3", None),
    ],
)
def test_what_is_chosen(tmp_path: Path, template: str | None, model_type: str | None, parser: str | None) -> None:
    folder = tokenizer(tmp_path / "t", "<think>", "</think>")
    assert choose_reasoning_parser(template, model_type, folder) == parser


def test_no_sign_is_hidden_by_one_before_it(tmp_path: Path) -> None:
    for number, (signs, parser, tokens) in enumerate(SIGNS):
        folder = tokenizer(tmp_path / str(number), *tokens)
        assert choose_reasoning_parser(" ".join(signs), None, folder) == parser


def test_without_the_marks_as_tokens_there_is_none_because_vllm_would_not_start(tmp_path: Path) -> None:
    assert choose_reasoning_parser("<think>", "qwen3", tokenizer(tmp_path / "bare")) is None
    assert choose_reasoning_parser("<think>", "qwen3", tokenizer(tmp_path / "half", "<think>")) is None
    assert choose_reasoning_parser("<think>", "qwen3", tmp_path / "no folder") is None


@pytest.mark.parametrize("where", ["decoder", "added_tokens.json", "vocabulary"])
def test_a_mark_is_found_wherever_a_tokenizer_keeps_it(tmp_path: Path, where: str) -> None:
    words = {"<think>": 5, "</think>": 6}
    decoder = {str(number): {"content": word} for word, number in words.items()}
    name, value = {
        "decoder": ("tokenizer_config.json", {"added_tokens_decoder": decoder}),
        "added_tokens.json": ("added_tokens.json", words),
        "vocabulary": ("tokenizer.json", {"model": {"vocab": words}}),
    }[where]
    (tmp_path / name).write_text(json.dumps(value), encoding="utf-8")
    assert choose_reasoning_parser("<think>", "qwen3", tmp_path) == "qwen3"


@needs_vllm
def test_every_parser_of_the_table_is_one_of_vllms() -> None:
    environment = vllm_environment()
    assert environment is not None
    (found,) = environment.glob("lib/python3*/site-packages/vllm/reasoning/__init__.py")
    known = set(re.findall(r'^    "([\w-]+)": \(', found.read_text(), re.MULTILINE))
    ours = {row[1] for row in SIGNS} | set(TYPES.values()) | {ANY}
    assert ours <= known, ours - known
