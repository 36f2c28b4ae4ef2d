"""Who is told how a run goes. The default is told and says nothing."""

from __future__ import annotations

from typing import Self

from harness.tau2.line import Outcome


class RunObserver:
    """Override what is of interest; everything is called on the event loop."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def starting(self, *, total: int, known: list[Outcome], concurrency: int) -> None:
        """`total` simulations belong to the run; `known` were finished before."""

    def began(self) -> None:
        """One more is in flight."""

    def asked(self) -> None:
        """A model answered, or failed for good."""

    def ended(self, outcome: Outcome) -> None:
        """One fewer is in flight; it is on disk."""
