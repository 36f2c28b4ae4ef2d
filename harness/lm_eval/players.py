"""Records between lm-eval's model and its simulation tasks: the model object opens the chat models, the task runs the simulations.

The model receives Orders and passes them its Players; it knows nothing of what is simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from harness.tau2.runs.run import Models


@dataclass(frozen=True, slots=True, kw_only=True)
class Players:
    """The chat models of a run. `open` opens them, for one run, which closes them. `identity` identifies them, without addresses.

    `out`: the folder in which runs are stored, so that they can be resumed; None: they are not stored.
    """

    open: Callable[[], Models]
    identity: Mapping[str, Any]
    max_concurrency: int
    out: Path | None = None


class Order(Protocol):
    """One item to be simulated. Orders of one `game` (a domain) are run together, by the first one's `play`."""

    game: str

    def play(self, orders: Sequence[Any], players: Players) -> list[str]:
        """The result of each order, as JSON text (which lm-eval stores as the answer). Raises HarnessError."""
        ...
