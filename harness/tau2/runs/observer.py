"""The interface through which a run of simulations reports its progress. The base class shows nothing."""

from __future__ import annotations

from typing import Self

from harness.reward_models.tau2.result import Result


class RunObserver:
    """Override what is of interest; everything is called on the event loop."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def starting(self, *, total: int, known: list[Result], concurrency: int) -> None:
        """The run has `total` simulations; `known` were finished before."""

    def began(self) -> None:
        """One more is in flight."""

    def asked(self) -> None:
        """A model answered, or failed for good."""

    def ended(self, result: Result) -> None:
        """One fewer is in flight; its line is stored."""
