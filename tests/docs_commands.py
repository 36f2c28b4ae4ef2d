"""The commands that README.md and docs/ print: every line of an indented or fenced block that is typed into a shell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PROGRAMS = (
    *(
        "harness",
        "python",
        "make",
        "pip",
        "pipx",
        "uvx",
        "lm_eval",
        "ray",
        "llamafactory-cli",
        "sbatch",
        "sky",
        "kubectl",
    ),
    *("trackio", "tensorboard", "wandb", "mlflow", "vllm", "inspect"),
)
LINE = re.compile(rf"(?:- run: )?(?:\$ )?((?:[A-Z_]+=\S+ )*(?:{'|'.join(map(re.escape, PROGRAMS))}) .*)")
COMMENT = re.compile(r"\s+#\s.*$")
SYNOPSIS = re.compile(r"\.\.\.|\[[^]]*\]|\b[A-Z]{3,}\b(?![_=])|\|")
"""What makes a command a form to be filled in: `...`, `[--option]`, `CHECKPOINT`, `a|b`."""


class Printed(NamedTuple):
    """A command as a page prints it, without its prompt and comment, in one line."""

    text: str
    page: str
    line: int

    @property
    def is_synopsis(self) -> bool:
        """Whether it is a form to be filled in."""
        return SYNOPSIS.search(self.text) is not None


def pages() -> list[Path]:
    """What a user reads."""
    docs = sorted((ROOT / "docs").rglob("*.md"))
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "plugin" / "README.md", *docs]


def printed() -> list[Printed]:
    """Every command of every page, in order."""
    return [
        one for page in pages() for one in commands_of(page.read_text(encoding="utf-8"), str(page.relative_to(ROOT)))
    ]


def commands_of(text: str, page: str) -> Iterator[Printed]:
    """The commands in a page's blocks."""
    lines = text.splitlines()
    fenced = False
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif (fenced or line.startswith("    ")) and (found := LINE.fullmatch(line.strip())):
            start = at
            command = COMMENT.sub("", found[1]).rstrip()
            while command.endswith("\\") and at + 1 < len(lines):
                at += 1
                command = command[:-1].rstrip() + " " + COMMENT.sub("", lines[at]).strip()
            yield Printed(command, page, start + 1)
        at += 1


def inline_commands(text: str) -> list[str]:
    """What stands between backticks in prose and begins with `harness `."""
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    return [" ".join(found.split()) for found in re.findall(r"(?<!`)`(harness (?!\.)[^`]+)`(?!`)", prose)]
