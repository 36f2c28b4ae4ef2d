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
    ("<mm:think>", "</mm:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|channel>thought", "<channel|>"),
    ("<unused94>thought", "<unused95>"),
    ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|plamo:begin_think:plamo|>", "<|plamo:end_think:plamo|>"),
)
"""What opens a thought and what ends it, in capitals or not: Qwen, DeepSeek, GLM and others; Claude-like data; Seed; LongCat; MiniMax;
Command; Magistral; Kimi-VL; Gemma; Kimi K3; Apertus; PLaMo."""
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
_CHANNEL_OPENS = "<|channel|>analysis<|message|>"
_BARE_CHANNELS = re.compile(r"\s*analysis(?:(?=[A-Z])|(?=.*assistantfinal))(.*?)(?:assistantfinal(.*))?", re.DOTALL)
"""The same by a server that leaves out special tokens."""
_GRANITE_OPENS = re.compile(r"\s*Here(?:'s| is) my thought process:")
_GRANITE = re.compile(_GRANITE_OPENS.pattern + r"(.*?)Here(?:'s| is) my response:(.*)", re.DOTALL)
_FENCE = re.compile(r"(?:^|(?<=[>\]]))[ \t]*(?P<bar>`{3,}|~{3,})(?P<info>[^`\n]*)$", re.MULTILINE)
_QUOTES = {"`": "`", '"': '"', "'": "'", "*": "*", "“": "”", "‘": "’", "«": "»", "„": "“", "(": ")"}
_OPENING_QUOTE = re.compile(r"(?:^|[^\w])[bfru]{0,2}([\"'“])$", re.IGNORECASE)
"""A quote that begins before a mark, with what Python writes before a string."""
_LINE = 200
"""Characters before and after a mark that are looked at."""


class Spoken(NamedTuple):
    """A text taken apart: `thought` None where there is none, `said` None where nothing else is."""

    thought: str | None
    said: str | None


def apart(text: str | None, *, opened: bool = False, cut: bool = False) -> Spoken:
    """A text's thoughts, and what is said: all of it where no mark shows a thought.

    `opened`: the prompt ended within a thought, so that the text goes on with it. `cut`: the text did not come to its own end.

    A thought that is never closed goes on to the end: one that opens the text, and where the text was cut off also one that begins
    later, between two sentences. Anywhere else such a mark is a word, as is every mark in quotes or in code. A thought that is
    closed and never opened begins with the text: its mark stood in the prompt. Thoughts may come more than once, and within each
    other; those between marks are joined by an empty line.
    """
    if not text:
        return Spoken(None, text)
    if (found := _otherwise(text, opened=opened, cut=cut)) is not None:
        return found
    marks = [_Mark.of(found) for found in _MARK.finditer(text) if not _quoted(text, found.start(), found.end())]
    if not marks and not opened:
        return Spoken(None, text)
    ends = _ends(marks)
    code = _Code(text)
    thoughts: list[str] = []
    said: list[str] = []
    silent = True
    at = 0
    if opened:
        closes = _first_end(marks, ends)
        thoughts.append(text[: len(text) if closes is None else marks[closes].start])
        at = len(text) if closes is None else marks[closes].end
    for number, mark in enumerate(marks):
        if mark.start < at or code.holds(mark, since=at):
            continue
        if mark.opens:
            closes = ends[number]
            silent = silent and not text[at : mark.start].strip()
            if closes is None and not silent and not (cut and _may_begin(text, at, mark.start)):
                continue
            said.append(text[at : mark.start])
            thoughts.append(text[mark.end : len(text) if closes is None else marks[closes].start])
            at = len(text) if closes is None else marks[closes].end
        elif not thoughts:
            thoughts.append(text[: mark.start])
            at = mark.end
    if not thoughts:
        return Spoken(None, text)
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
    waiting: dict[int, list[int]] = {}
    for number, mark in enumerate(marks):
        mine = waiting.setdefault(mark.family, [])
        if mark.opens:
            mine.append(number)
        elif mine:
            ends[mine.pop()] = number
    nearest: dict[int, int] = {}
    for number in reversed(range(len(marks))):
        mark = marks[number]
        if not mark.opens:
            nearest[mark.family] = number
        elif ends[number] is None:
            ends[number] = nearest.get(mark.family)
    return ends


def _first_end(marks: list[_Mark], ends: list[int | None]) -> int | None:
    """The mark that ends a thought which the prompt opened: the first that ends no other, else the first of all."""
    others = {closes for closes in ends if closes is not None}
    closing = [number for number, mark in enumerate(marks) if not mark.opens]
    return next((number for number in closing if number not in others), closing[0] if closing else None)


def _quoted(text: str, start: int, end: int) -> bool:
    """Whether a mark stands alone between quotes or backticks, and is spoken of."""
    before, after = text[start - 1 : start], text[end : end + 1]
    if not before or _QUOTES.get(before) != after:
        return False
    outside = text[max(0, start - 2) : start - 1], text[end + 1 : end + 2]
    return not (outside[0].isalnum() or outside[0] in tuple(".!?…,;")) and not outside[1].isalnum()


def _may_begin(text: str, at: int, start: int) -> bool:
    """Whether a thought can begin here, after what is said from `at` on: between sentences, and not as a word in one."""
    before = text[max(at, start - _LINE) : start]
    words = before.rstrip()
    if not words or "\n" in before[len(words) :]:
        return True
    return words[-1] in ".!?…:\"'`*)”’»" or (words == before and words[-1].isalnum())


class _Code:
    """Which marks of what is said stand in code: in a fenced block, or on a line between backticks or quotes. Asked in order."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._fences = list(_FENCE.finditer(text))
        self._next = 0
        self._begin = self._end = -1
        self._opened: set[int] = set()

    def holds(self, mark: _Mark, *, since: int) -> bool:
        """`since`: where the last thought ended; code is in what is said after it."""
        if not self._begin <= mark.start < self._end or self._begin < since:
            self._look(mark, since)
        if not self._begin <= mark.start < self._end:
            return False
        if mark.opens:
            self._opened.add(mark.family)
        return mark.family in self._opened  # one that only closes may end a thought that the prompt opened

    def _look(self, mark: _Mark, since: int) -> None:
        """The next piece of code in which the mark may be."""
        self._opened = set()
        self._begin = self._end = -1
        while self._next + 1 < len(self._fences) and self._fences[self._next].start() < mark.start:
            fence = self._fences[self._next]
            closes = None if fence.start() < since else self._closing(self._next)
            if closes is None:
                self._next += 1
            elif (end := self._fences[closes].start()) <= mark.start:
                self._next = closes + 1
            else:
                self._begin, self._end = fence.end(), end
                return
        if mark.opens:
            self._look_on_line(mark, since)

    def _closing(self, number: int) -> int | None:
        """The fence that closes a block: of its kind, no shorter, and bare; others within it are its content. None without one."""
        bar = self._fences[number]["bar"]
        for later in range(number + 1, len(self._fences)):
            if self._fences[later]["bar"].startswith(bar):
                return None if self._fences[later]["info"].strip() else later
        return None

    def _look_on_line(self, mark: _Mark, since: int) -> None:
        before = self._text[max(since, mark.start - _LINE) : mark.start].rpartition("\n")[2]
        after = self._text[mark.end : mark.end + _LINE].partition("\n")[0]
        opening = _OPENING_QUOTE.search(before)
        quote = "`" if before.count("`") % 2 else opening[1] if opening else ""
        if quote and (length := after.find(_QUOTES[quote])) >= 0:
            self._begin, self._end = mark.start, mark.end + length


def _otherwise(text: str, *, opened: bool, cut: bool) -> Spoken | None:
    """A text with other marks than pairs: channels, or Granite's sentences; None for any other."""
    if (found := _GRANITE.fullmatch(text)) is not None:
        return Spoken(found[1].strip(), found[2].strip() or None)
    if cut and (begins := _GRANITE_OPENS.match(text)) is not None:
        return Spoken(text[begins.end() :].strip(), None)
    if (found := _BARE_CHANNELS.fullmatch(text)) is not None:
        return Spoken(found[1].strip(), (found[2] or "").strip() or None)
    first = _CHANNEL.search(text)
    before = "" if first is None else text[: first.start()].rstrip()
    if first is None or not (opened or not before or before.endswith(("<|end|>", "<|return|>", "<|call|>"))):
        return None
    messages = [(one[1], one[2]) for one in _CHANNEL.finditer(text)]
    thoughts = [before.removesuffix("<|end|>").strip()]  # the prompt opened its message
    thoughts += [said.strip() for channel, said in messages if channel == "analysis"]
    words = _CHANNEL.sub(lambda one: "" if one[1] == "analysis" else one[2], text[first.start() :]).strip()
    there = before or any(channel == "analysis" for channel, _ in messages)
    return Spoken("\n\n".join(filter(None, thoughts)) if there else None, words or None)


def shows_thoughts(template: str) -> bool:
    """Whether a chat template knows a mark of thoughts, so that answers may have some."""
    return any(mark in template for mark in (*OPENS, "<|channel|>", "my thought process"))


def opens_thought(prompt: str) -> bool:
    """Whether a rendered prompt ends within a thought, so that the answer goes on with one."""
    end = prompt.rstrip()
    return end.endswith((*OPENS, _CHANNEL_OPENS)) or _GRANITE_OPENS.fullmatch(end[-40:].rpartition("\n")[2]) is not None
