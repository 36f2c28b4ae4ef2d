"""Which of vLLM's parsers reads the tool calls of a model, chosen by its chat template. Functions of text.

The template decides, because it is what the model was trained on: a fine-tune of a Llama with a hermes template writes
hermes calls. The model type decides where templates do not show it.
"""

from __future__ import annotations

import json
from pathlib import Path

TYPED: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (("<tool_call>", "<function="), ("step3p5",), "step3p5"),
    (("<tool_call>", "<function="), ("mimo_v2", "mimo_v2_flash"), "mimo"),
    (("<tool_call>",), ("ernie4_5", "ernie4_5_moe"), "ernie45"),
    (("<tool_call>",), ("granitemoehybrid",), "granite4"),
    (("<tool_calls>",), ("jamba",), "jamba"),
)
"""Texts in a template, model types, parser: families whose templates look like others'; checked before SIGNS."""
SIGNS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("]<]minimax[>[",), "minimax_m3"),
    (("<minimax:tool_call>",), "minimax_m2"),
    (("<｜DSML｜function_calls>",), "deepseek_v32"),
    (("<｜DSML｜tool_calls>",), "deepseek_v4"),
    (("<｜DSML｜ calls>",), "deepseek_v41"),
    (("<|plamo:begin_tool_requests:plamo|>",), "plamo3"),
    (("<ifm|tool_calls>",), "k2_horizon"),
    (("<dots_function_call>",), "dots"),
    (("<steptml:invoke",), "step3"),
    (("<|tools_prefix|>",), "apertus"),
    (("<|content_invoke_tool_json|>",), "inkling"),
    (("<|open|>", "<|sep|>", "<|close|>"), "kimi_k3"),
    (("<|function_call|>",), "gigachat3"),
    (("function call<|role_sep|>",), "gigachat3"),
    (("<|START_ACTION|>", "<|START_TEXT|>"), "cohere_command4"),
    (("<|START_ACTION|>",), "cohere_command3"),
    (("<function_calls>",), "olmo3"),
    (("<function_call>",), "granite-20b-fc"),
    (("<function name=", "<param name="), "minicpm5"),
    (("<|tool_call>",), "gemma4"),
    (("<tool_calls", "<tool_sep"), "hy_v3"),
    (("<tool_calls>",), "hunyuan_a13b"),
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
"""Texts in a template, and the parser; the first row whose texts are all in the template applies."""
TYPES = {
    "gpt_oss": "openai",
    "jamba": "jamba",
    "granite": "granite",
    "granitemoehybrid": "granite4",
    "olmo3": "olmo3",
    "cohere2": "cohere_command3",
    "deepseek_v32": "deepseek_v32",
    "ernie4_5": "ernie45",
    "ernie4_5_moe": "ernie45",
    "hunyuan_v1_moe": "hunyuan_a13b",
    "step3_vl": "step3",
    "step3_text": "step3",
    "step3p5": "step3p5",
    "apertus": "apertus",
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
    """vLLM's name of the parser; None for a model that has no template, or one that knows no tools."""
    if not template:
        return None
    for signs, types, parser in TYPED:
        if model_type in types and all(sign in template for sign in signs):
            return parser
    for signs, parser in SIGNS:
        if all(sign in template for sign in signs):
            return parser
    return TYPES.get(model_type or "") if "tools" in template else None


def chat_template(tokenizer: Path) -> str | None:
    """The chat template saved with a tokenizer, the one for tools where there are several; None for none.

    In the order of transformers: files of their own, the key in tokenizer_config.json, those of a processor.
    """
    for name in ("additional_chat_templates/tool_use.jinja", "chat_template.jinja"):
        try:
            return (tokenizer / name).read_text(encoding="utf-8")
        except OSError:
            continue
    for name in ("tokenizer_config.json", "chat_template.json", "processor_config.json"):
        try:
            value = json.loads((tokenizer / name).read_text(encoding="utf-8")).get("chat_template")
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(value, list):  # several, by name
            value = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)}
        if isinstance(value, dict):
            value = value.get("tool_use") or value.get("default")
        if isinstance(value, str):
            return value
    return None
