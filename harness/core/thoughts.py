"""What a model thinks, told apart from what it says, where both come as one text. Pure functions over the marks of the field."""

from __future__ import annotations

import re
from typing import NamedTuple

MARKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<longcat_think>", "</longcat_think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|channel>thought", "<channel|>"),
    ("<unused94>thought", "<unused95>"),
)
"""What opens a thought and what ends it, in capitals or not: Qwen, DeepSeek, GLM and others; Claude-like data; Seed; Command; Magistral;
Kimi-VL; Gemma."""
OPENS = tuple(opens for opens, _ in MARKS)
_EITHER = {
    opens.lower(): re.compile(f"({re.escape(opens)})|{re.escape(closes)}", re.IGNORECASE) for opens, closes in MARKS
}
_OPEN = re.compile("|".join(map(re.escape, OPENS)), re.IGNORECASE)
_CLOSE = re.compile("|".join(re.escape(closes) for _, closes in MARKS), re.IGNORECASE)
_CHANNEL = re.compile(
    r"(?:<\|start\|>\w*)?<\|channel\|>\s*(\w+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
    r"(.*?)(?:<\|(?:end|return|call)\|>|(?=<\|start\|>|<\|channel\|>)|\Z)",
    re.DOTALL,
)
"""A message of gpt-oss, by its channel; what is not on `analysis` is said."""
_GRANITE = re.compile(r"\s*Here(?:'s| is) my thought process:(.*?)Here(?:'s| is) my response:(.*)", re.DOTALL)


class Spoken(NamedTuple):
    """A text taken apart: `thought` None where there is none, `said` None where nothing else is."""

    thought: str | None
    said: str | None


def apart(text: str | None) -> Spoken:
    """A text's thoughts, and what is said: all of it where no mark shows a thought.

    A thought that is never closed goes on to the end. One that is closed and never opened begins with the text: its mark stood in
    the prompt. Thoughts may come more than once, and within each other; those between marks are joined by an empty line.
    """
    if text and (_CHANNEL.search(text) is not None or _GRANITE.fullmatch(text) is not None):
        return _otherwise(text)
    if not text or not (_OPEN.search(text) or _CLOSE.search(text)):
        return Spoken(None, text)
    thoughts, said, rest = [], [], text
    first = _CLOSE.search(rest)
    if first is not None and _OPEN.search(rest, 0, first.start()) is None:
        thoughts.append(rest[: first.start()])
        rest = rest[first.end() :]
    while (opened := _OPEN.search(rest)) is not None:
        said.append(rest[: opened.start()])
        inside, rest = _inside(rest[opened.end() :], _EITHER[opened.group().lower()])
        thoughts.append(inside)
    said.append(rest)
    words = "".join(said).strip()
    return Spoken("\n\n".join(one.strip() for one in thoughts if one.strip()), words or None)


def _inside(text: str, either: re.Pattern[str]) -> tuple[str, str]:
    """What is within a thought that was just opened, and what comes after it.

    One that is opened within it has its own end, unless there are too few: then its mark was a word.
    """
    depth, first = 1, None
    for mark in either.finditer(text):
        depth += 1 if mark.group(1) else -1
        if not mark.group(1):
            first = first or mark
        if depth == 0:
            return text[: mark.start()], text[mark.end() :]
    return (text, "") if first is None else (text[: first.start()], text[first.end() :])


def _otherwise(text: str) -> Spoken:
    """A text with other marks than pairs: channels, or Granite's sentences."""
    if (found := _GRANITE.fullmatch(text)) is not None:
        return Spoken(found[1].strip(), found[2].strip() or None)
    messages = [(one[1], one[2]) for one in _CHANNEL.finditer(text)]
    thoughts = [said.strip() for channel, said in messages if channel == "analysis"]
    words = _CHANNEL.sub(lambda one: "" if one[1] == "analysis" else one[2], text).strip()
    return Spoken("\n\n".join(filter(None, thoughts)) if thoughts else None, words or None)


def opens_thought(prompt: str) -> bool:
    """Whether a rendered prompt ends within a thought, so that the answer goes on with one."""
    return prompt.rstrip().endswith(OPENS)
