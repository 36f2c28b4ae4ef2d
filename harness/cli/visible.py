"""Text that a model may have written, made safe to show: control characters are visible, never executed."""

from __future__ import annotations

from rich.text import Text


def visible(text: str) -> str:
    """One line, with every control character (line breaks included) as an escape such as `\\x1b`."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def plain(text: str, width: int = 60) -> Text:
    """Text from a file, which a model may have written, as rich prints it: one line, cut at `width`."""
    shown = visible(text)
    return Text(shown if len(shown) <= width else f"{shown[: width - 1]}…")


def visible_lines(text: str) -> str:
    """The same with line breaks kept, and tabs as spaces."""
    return "\n".join(visible(line.replace("\t", "    ")) for line in text.replace("\r\n", "\n").split("\n"))


def cut(text: str, limit: int) -> str:
    """At most `limit` characters, and how many more there are."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters; --full shows them)"
