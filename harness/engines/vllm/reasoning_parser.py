"""Which of vLLM's parsers tells what a model thinks from what it says: by what its chat template writes, like the tool parser.

Most of them want the marks of a thought as single tokens and do not start without; where the tokenizer lacks them, none is
chosen, and core/thoughts.py tells thoughts and words apart afterwards.
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
"""Model type -> the parser of templates with `<think>`, where it is a family's own."""
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
"""What stands in a template -> the parser, and the tokens that it needs; the first row of which everything is there."""
THINK = ("<think>", "</think>")
ANY = "qwen3"
"""For every other model: a call ends a thought for it. The rest of vLLM's parsers (deepseek_r1) take the answer of a model that does
not think for one long thought, and its calls are lost in it."""


def choose_reasoning_parser(template: str | None, model_type: str | None, tokenizer: Path) -> str | None:
    """vLLM's name of the parser; None for a model whose template shows no thoughts, or whose tokenizer lacks their marks."""
    if not template:
        return None
    if THINK[0] in template and "tools" in template and "<tool_call>" not in template and model_type not in TYPES:
        rows = [*SIGNS]  # its calls look otherwise, and nothing would end the thought
    else:
        rows = [*SIGNS, ((THINK[0],), TYPES.get(model_type or "", ANY), THINK)]
    for signs, parser, tokens in rows:
        if all(sign in template for sign in signs):
            return parser if set(tokens) <= _added(tokenizer, tokens) else None
    return None


def _added(tokenizer: Path, wanted: tuple[str, ...]) -> set[str]:
    """Those of the words that are tokens of their own."""
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
