"""Who plays in the simulations that lm-eval asks for: lm-eval's model opens chat models, lm-eval's task knows the game.

The model is handed orders, lends them its players, and knows nothing of what is played.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from harness.tau2.runs.run import Models


@dataclass(frozen=True, slots=True, kw_only=True)
class Players:
    """`open` makes the models anew, for one run that closes them. `identity` says which they are, without addresses.

    `out`: the folder in which runs are kept, so that they resume; None: they are not kept.
    """

    open: Callable[[], Models]
    identity: Mapping[str, Any]
    max_concurrency: int
    out: Path | None = None


class Order(Protocol):
    """One item to be played. Orders of one game are played together, by the first one's `play`."""

    game: str

    def play(self, orders: Sequence[Any], players: Players) -> list[str]:
        """What came of each order, as JSON text (lm-eval writes the text of every answer down). Raises HarnessError."""
        ...
