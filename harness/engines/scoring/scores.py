"""What the engine returns: a score per pair, and how the scores were proved. Records only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

ScoringPath = Literal["packed", "padded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The comparison of scores with one sequence at a time: path, number of pairs, largest difference and its bound in nats per token."""

    path: ScoringPath
    n_pairs: int
    largest: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the scores count."""
        return self.largest <= self.bound

    def as_json(self) -> dict[str, JsonValue]:
        """As in a measurement's detail."""
        return {"path": self.path, "n_pairs": self.n_pairs, "largest_difference": self.largest, "bound": self.bound}

    def joined(self, other: Proof) -> Proof:
        """The proof of scores that were computed in two parts."""
        worse = max(self, other, key=lambda proof: proof.largest - proof.bound)
        path: ScoringPath = "padded" if "padded" in (self.path, other.path) else "packed"
        return Proof(path=path, n_pairs=self.n_pairs + other.n_pairs, largest=worse.largest, bound=worse.bound)


class Scores(NamedTuple):
    """Per pair, in the order given: summed nats, shape [n]; whether every response token was the likeliest, shape [n]
    (meaningful only where it was asked for)."""

    logprob: npt.NDArray[np.float64]
    greedy: npt.NDArray[np.bool_]
    proof: Proof | None = None
