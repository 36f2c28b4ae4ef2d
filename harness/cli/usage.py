"""What is said of a command line that cannot be parsed: one sentence with what is wrong, what is allowed, and where that is listed."""

from __future__ import annotations

import re
from typing import Any

PLAIN = (
    (r"^Value error, ", ""),
    (r"^Input should be a valid integer\b.*", "it must be a whole number"),
    (r"^Input should be a valid number\b.*", "it must be a number"),
    (r"^Input should be greater than or equal to (\S+)$", r"it must be at least \1"),
    (r"^Input should be less than or equal to (\S+)$", r"it must be at most \1"),
    (r"^Input should be ", "it must be "),
)
"""Words of the parser -> ours."""


def usage_words(error: Any) -> str | None:
    """One line for an error of the parser; None for what is no such error, such as help that is shown."""
    context = getattr(error, "ctx", None)
    if not hasattr(error, "format_message") or type(error).__name__ == "NoArgsIsHelpError":
        return None
    parameter = getattr(error, "param", None)
    if parameter is None or type(error).__name__ == "MissingParameter":
        words = " ".join(error.format_message().split()).rstrip(".?")
    else:
        words = error.message.rstrip(".")
        for pattern, plain in PLAIN:
            words = re.sub(pattern, plain, words)
        names = [name for name in getattr(parameter, "opts", ()) if name.startswith("--")]
        words = f"{names[0] if names else parameter.name}: {words}"
    command = "harness" if context is None else context.command_path
    return f"{words}; `{command} --help` lists what it takes"
