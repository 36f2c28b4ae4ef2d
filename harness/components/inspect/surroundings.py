"""Contexts in which a task is built: fixed random seeds, and no output."""

from __future__ import annotations

import contextlib
import io
import random
import sys
from collections.abc import Iterator
from typing import Any

SEED = 0
"""Seed of random draws while a task is built."""
_Random = random.Random


class _Seeded(_Random):
    """`random.Random` that uses SEED where no seed is given."""

    def __init__(self, x: Any = None) -> None:
        super().__init__(SEED if x is None else x)


@contextlib.contextmanager
def fixed_draws() -> Iterator[None]:
    """Shuffles without a seed, which some three dozen evals do, give the same order every time, so that `limit` takes the same samples."""
    import numpy as np

    python, numpy = random.getstate(), np.random.get_state()
    random.seed(SEED)
    np.random.seed(SEED)
    random.Random = _Seeded  # type: ignore[misc]
    try:
        yield
    finally:
        random.Random = _Random  # type: ignore[misc]
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discard what tasks and Inspect print."""
    hook = sys.excepthook
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        sys.excepthook = hook  # Inspect sets its own
