"""Which of vLLM's parsers reads the tool calls of a model: by what its chat template writes. Pure text.

The template decides, because it is what the model was trained on: a fine-tune of a Llama with a hermes template writes
hermes calls. The model type decides where templates do not show it.
"""

from __future__ import annotations

import json
from pathlib import Path

SIGNS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("<minimax:tool_call>",), "minimax_m2"),
    (("<seed:tool_call>",), "seed_oss"),
    (("<|tool_calls_section_begin|>",), "kimi_k2"),
    (("<|tool_list_start|>",), "lfm2"),
    (("<start_function_call>",), "functiongemma"),
    (("<longcat_tool_call>",), "longcat"),
    (("<arg_key>",), "glm45"),
    (("<tool_call>", "<function="), "qwen3_coder"),
    (("<tool_call>",), "hermes"),
    (("<tool▁calls▁begin>", "```json"), "deepseek_v3"),
    (("<｜tool▁calls▁begin｜>", "```json"), "deepseek_v3"),
    (("<｜tool▁calls▁begin｜>",), "deepseek_v31"),
    (("[TOOL_CALLS]",), "mistral"),
    (("<|python_start|>",), "llama4_pythonic"),
    (("<|python_tag|>",), "llama3_json"),
    (("functools[",), "phi4_mini_json"),
    (("<|channel|>commentary",), "openai"),
    (("<|tool_call|>",), "granite"),
    (("<|action_start|>",), "internlm"),
)
"""What stands in a template -> the parser; the first row of which everything is there."""
TYPES = {
    "gpt_oss": "openai",
    "jamba": "jamba",
    "granite": "granite",
    "llama": "llama3_json",
    "mistral": "mistral",
    "qwen2": "hermes",
    "qwen3": "hermes",
    "qwen3_moe": "hermes",
    "kimi_k2": "kimi_k2",
    "gemma4": "gemma4",
}
"""Model type -> the parser, where a template mentions tools but shows none of the signs."""


def choose_parser(template: str | None, model_type: str | None) -> str | None:
    """vLLM's name of the parser; null for a model that has no template, or one that knows no tools."""
    if not template:
        return None
    for signs, parser in SIGNS:
        if all(sign in template for sign in signs):
            return parser
    return TYPES.get(model_type or "") if "tools" in template else None


def chat_template(tokenizer: Path) -> str | None:
    """The chat template saved with a tokenizer: chat_template.jinja, or the key in tokenizer_config.json; null for none."""
    try:
        return (tokenizer / "chat_template.jinja").read_text(encoding="utf-8")
    except OSError:
        pass
    try:
        value = json.loads((tokenizer / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template")
    except (OSError, ValueError, AttributeError):
        return None
    if isinstance(value, list):  # several, by name
        named = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)}
        value = named.get("tool_use") or named.get("default")
    return value if isinstance(value, str) else None
