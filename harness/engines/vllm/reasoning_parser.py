"""Which of vLLM's reasoning parsers fits a model, chosen by its chat template like the tool parser.

Most of them need the marks of a thought to be single tokens, and fail at the start otherwise. If the tokenizer lacks them, none is
chosen, and core/thoughts.py separates thoughts from the answer afterwards.
"""

from __future__ import annotations

import json
from pathlib import Path

TYPES: dict[str, str] = {
    "deepseek_v3": "deepseek_v3",
    "ernie4_5": "ernie45",
    "ernie4_5_moe": "ernie45",
    "glm4_moe": "glm45",
    "glm4_moe_lite": "glm45",
    "hunyuan_v1_moe": "hunyuan_a13b",
    "kimi_k2": "kimi_k2",
    "mimo_v2": "mimo",
    "mimo_v2_flash": "mimo",
    "minimax": "minimax_m2",
    "minimax_m2": "minimax_m2",
    "nemotron_h": "nemotron_v3",
    "olmo3": "olmo3",
    "step3p5": "step3p5",
    "step3_text": "step3",
    "step3_vl": "step3",
}
"""Model type -> the parser for templates with `<think>`, for families that have one of their own."""
SIGNS: tuple[tuple[tuple[str, ...], str, tuple[str, ...]], ...] = (
    (("]<]minimax[>[",), "minimax_m3", ()),
    (("<minimax:tool_call>", "<think>"), "minimax_m2", ("<think>", "</think>")),
    (("<｜DSML｜tool_calls>",), "deepseek_v4", ("<think>", "</think>")),
    (("<｜DSML｜ calls>",), "deepseek_v41", ("<think>", "</think>")),
    (("<seed:think>",), "seed_oss", ("<seed:think>", "</seed:think>")),
    (("[THINK]",), "mistral", ("[THINK]", "[/THINK]")),
    (("<|plamo:begin_think:plamo|>",), "plamo3", ("<|plamo:begin_think:plamo|>", "<|plamo:end_think:plamo|>")),
    (("<|channel|>analysis",), "openai_gptoss", ("<|channel|>",)),
    (("<|START_THINKING|>", "<|START_TEXT|>"), "cohere_command4", ("<|START_THINKING|>", "<|END_THINKING|>")),
    (("<|START_THINKING|>",), "cohere_command3", ("<|START_THINKING|>", "<|END_THINKING|>")),
    (("<|channel>", "thought"), "gemma4", ("<|channel>",)),
    (("Here is my thought process",), "granite", ()),
    (("<｜tool▁calls▁begin｜>", "thinking is not defined"), "deepseek_v3", ("<think>", "</think>")),
)
"""Texts in a template, the parser, and the tokens that it needs; the first row whose texts are all in the template applies."""
THINK = ("<think>", "</think>")
ANY = "qwen3"
"""For every other model: it ends a thought at a tool call. vLLM's remaining parsers (deepseek_r1) take a whole answer without marks for
a thought, and lose its calls."""


def choose_reasoning_parser(template: str | None, model_type: str | None, tokenizer: Path) -> str | None:
    """vLLM's name of the parser; None for a model whose template shows no thoughts, or whose tokenizer lacks their marks."""
    if not template:
        return None
    if THINK[0] in template and "tools" in template and "<tool_call>" not in template and model_type not in TYPES:
        rows = [*SIGNS]  # its calls have another form, which would not end a thought for ANY
    else:
        rows = [*SIGNS, ((THINK[0],), TYPES.get(model_type or "", ANY), THINK)]
    for signs, parser, tokens in rows:
        if all(sign in template for sign in signs):
            return parser if set(tokens) <= _added(tokenizer, tokens) else None
    return None


def _added(tokenizer: Path, wanted: tuple[str, ...]) -> set[str]:
    """Those of the `wanted` texts that are single tokens."""
    found: set[str] = set()
    for name in ("tokenizer.json", "tokenizer_config.json", "added_tokens.json"):
        try:
            value = json.loads((tokenizer / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if not isinstance(value, dict):
            continue
        listed = value.get("added_tokens") or []
        listed = [*listed, *(value.get("added_tokens_decoder") or {}).values()]
        found |= {str(one["content"]) for one in listed if isinstance(one, dict) and "content" in one}
        vocabulary = (value.get("model") or {}).get("vocab") if isinstance(value.get("model"), dict) else value
        if isinstance(vocabulary, dict):
            found |= {word for word in wanted if word in vocabulary}
    return found & set(wanted)
