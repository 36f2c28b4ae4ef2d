"""The interface through which a run reports what it does. The base class shows nothing of it; the command line has its own."""

from __future__ import annotations

import warnings
from typing import Self

from harness.core.checkpoint import Checkpoint
from harness.core.component import SilentProgress
from harness.core.vector import ComponentRecord, RewardVector


class Observer(SilentProgress):
    """Callbacks of a run, all of which may be overridden. A subclass may show something on screen within its `with` block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def starting(self, *, checkpoints: int | None, vectors: int | None, items: int) -> None:
        """Before the first checkpoint: how much there is to do; None where that is not known yet."""

    def opening(self, checkpoint: Checkpoint) -> None:
        """A checkpoint's turn has come."""

    def working(self, worker: str, checkpoint: Checkpoint | None, *, items: int) -> None:
        """One of several workers begins a checkpoint of so many items; None: it has ended its last one."""

    def worked(self, worker: str, *, items: int, tokens: int) -> None:
        """One of several workers finished items; by default as `advance`."""
        self.advance(items=items, tokens=tokens)

    def finished(self, vector: RewardVector, *, new: bool) -> None:
        """A vector is in the feed; `new` unless it was there before."""

    def alarm(self, vector: RewardVector, component: ComponentRecord) -> None:
        """A source component has lost more than it may since its best step; called once for each vector and component."""

    def warning(self, words: str) -> None:
        """Something other than a measurement failed, such as a tracker. By default a Python warning."""
        warnings.warn(words, stacklevel=2)
