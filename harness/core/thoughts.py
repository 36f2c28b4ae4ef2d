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
_FAMILY = {mark.lower(): number for number, pair in enumerate(MARKS) for mark in pair}
_MARK = re.compile("|".join(re.escape(mark) for pair in MARKS for mark in pair), re.IGNORECASE)
_IS_OPEN = frozenset(opens.lower() for opens in OPENS)
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
    marks = [] if not text else [_Mark.of(found) for found in _MARK.finditer(text)]
    if not text or not marks:
        return Spoken(None, text)
    ends = _ends(marks)
    thoughts, said, at, number = [], [], 0, 0
    if not marks[0].opens:
        thoughts.append(text[: marks[0].start])
        at, number = marks[0].end, 1
    while number < len(marks):
        mark = marks[number]
        if not mark.opens:  # ends nothing, and stays a word
            number += 1
            continue
        said.append(text[at : mark.start])
        closes = ends[number]
        thoughts.append(text[mark.end : len(text) if closes is None else marks[closes].start])
        at, number = (len(text), len(marks)) if closes is None else (marks[closes].end, closes + 1)
    said.append(text[at:])
    words = "".join(said).strip()
    return Spoken("\n\n".join(one.strip() for one in thoughts if one.strip()), words or None)


class _Mark(NamedTuple):
    """A mark in a text. `family`: which of MARKS."""

    start: int
    end: int
    family: int
    opens: bool

    @classmethod
    def of(cls, found: re.Match[str]) -> _Mark:
        name = found.group().lower()
        return cls(found.start(), found.end(), _FAMILY[name], name in _IS_OPEN)


def _ends(marks: list[_Mark]) -> list[int | None]:
    """Of each mark that opens a thought, the number of the one that ends it; None where it is never closed.

    One that is opened within another has its own end, unless there are too few: then its mark was a word.
    """
    ends: list[int | None] = [None] * len(marks)
    opened: dict[int, list[int]] = {}
    for number, mark in enumerate(marks):
        waiting = opened.setdefault(mark.family, [])
        if mark.opens:
            waiting.append(number)
        elif waiting:
            ends[waiting.pop()] = number
    nearest: dict[int, int] = {}
    for number in reversed(range(len(marks))):
        mark = marks[number]
        if not mark.opens:
            nearest[mark.family] = number
        elif ends[number] is None:
            ends[number] = nearest.get(mark.family)
    return ends


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
