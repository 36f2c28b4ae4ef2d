"""Names of checkpoints on the command line: `PATH`, `PATH@STEP`, `PATH:TRAJECTORY`, `PATH:TRAJECTORY@STEP`. Text in, parts out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from harness.core.errors import DataError

StepName = int | Literal["first", "last"]
_STEP = re.compile(r"@(\d+|first|last)$")


class PlaceName(NamedTuple):
    """A path that exists, and the text after it as given (`:mix-2@7`, or empty)."""

    path: Path
    rest: str

    def chosen(self, trajectories: Sequence[str], trainings: Sequence[str]) -> tuple[list[int], StepName | None]:
        """(positions in `trajectories`, step), step None where none is named. `trainings`: their names without a seed.

        One trajectory is named in full, or all seeds of a training by its name. Raises DataError.
        """
        rest, step = self.rest, None
        if rest.removeprefix(":") not in trajectories and (found := _STEP.search(rest)):
            rest = rest[: found.start()]
            step = found[1]
        asked: StepName | None = None if step is None else int(step) if step.isdigit() else _word(step)
        if not rest:
            return list(range(len(trajectories))), asked
        name = rest.removeprefix(":")
        if rest.startswith(":"):
            for known in (trajectories, trainings):
                if name in known:
                    return [index for index, one in enumerate(known) if one == name], asked
        raise DataError(
            f"{self.path}{self.rest}: no trajectory {name!r}; it has {', '.join(trajectories)}. Write "
            f"{self.path}:TRAJECTORY@STEP, or {self.path}@STEP"
        )


def _word(step: str) -> Literal["first", "last"]:
    return "first" if step == "first" else "last"


def parse_place(text: str) -> PlaceName:
    """The longest prefix of a text that is an existing path, and the rest. Raises DataError where there is none."""
    ends = [len(text), *(at for at in range(len(text) - 1, 0, -1) if text[at] in ":@")]
    for end in ends:
        if Path(text[:end]).exists():
            return PlaceName(Path(text[:end]), text[end:])
    raise DataError(f"nothing at {text}; name a run folder, a feed (rewards.jsonl) or a result folder of lm-eval")
