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
)
"""What opens a thought and what ends it: Qwen, DeepSeek, GLM and others; Claude-like data; Seed; Command; Magistral; Kimi-VL."""
OPENS = tuple(opens for opens, _ in MARKS)
_CLOSES = dict(MARKS)
_OPEN = re.compile("|".join(map(re.escape, OPENS)))
_CLOSE = re.compile("|".join(re.escape(closes) for _, closes in MARKS))


class Spoken(NamedTuple):
    """A text taken apart: `thought` None where there is none, `said` None where nothing else is."""

    thought: str | None
    said: str | None


def apart(text: str | None) -> Spoken:
    """A text's thoughts, and what is said: all of it where no mark shows a thought.

    A thought that is never closed goes on to the end. One that is closed and never opened begins with the text: its mark stood in
    the prompt. Thoughts may come more than once; those between marks are joined by an empty line.
    """
    if not text or not (_OPEN.search(text) or _CLOSE.search(text)):
        return Spoken(None, text)
    thoughts, said, rest = [], [], text
    first = _CLOSE.search(rest)
    if first is not None and _OPEN.search(rest, 0, first.start()) is None:
        thoughts.append(rest[: first.start()])
        rest = rest[first.end() :]
    while (opened := _OPEN.search(rest)) is not None:
        said.append(rest[: opened.start()])
        closes = _CLOSES[opened.group()]
        inside, closed, rest = rest[opened.end() :].partition(closes)
        thoughts.append(inside)
        if not closed:
            rest = ""
    said.append(rest)
    words = "".join(said).strip()
    return Spoken("\n\n".join(one.strip() for one in thoughts if one.strip()), words or None)


def opens_thought(prompt: str) -> bool:
    """Whether a rendered prompt ends within a thought, so that the answer goes on with one."""
    return prompt.rstrip().endswith(OPENS)
