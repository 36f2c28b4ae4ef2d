"""One of several parts of a run that are measured separately: its checkpoints, and the places of the whole run, for the merge."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from harness.core.checkpoint import Checkpoint
from harness.core.errors import SpecError
from harness.core.place import Place
from harness.spec.prepared import Prepared

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """`number` of `of`, from 1. `places`: of every vector of the whole run, in its order."""

    number: int
    of: int
    places: tuple[Place, ...]

    def as_json(self) -> dict[str, Any]:
        """As run.json has it."""
        return {"number": self.number, "of": self.of, "places": [list(place) for place in self.places]}


def shard_of(text: str, prepared: Prepared, checkpoints: Sequence[Checkpoint]) -> tuple[Shard, list[Checkpoint]]:
    """The shard that `i/n` names, and its checkpoints: every n-th, the i-th first. Raises SpecError."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    number, of = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= of:
        raise SpecError(f"--shard {text!r} is no I/N with I from 1 to N, such as 2/8")
    places = tuple(row.place(checkpoint) for checkpoint in checkpoints for row in prepared.rows)
    return Shard(number=number, of=of, places=places), list(checkpoints[number - 1 :: of])
