"""What a task is built in: the same draws every time, and silence."""

from __future__ import annotations

import contextlib
import io
import random
import sys
from collections.abc import Iterator
from typing import Any

SEED = 0
"""Of what tasks draw while they are built."""
_Random = random.Random


class _Seeded(_Random):
    """Without a seed, with ours."""

    def __init__(self, x: Any = None) -> None:
        super().__init__(SEED if x is None else x)


@contextlib.contextmanager
def fixed_draws() -> Iterator[None]:
    """What a task shuffles without a seed, as three dozen evals do, comes out the same every time: a limit takes the same samples."""
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
    """What tasks and Inspect print is not part of a command's output."""
    hook = sys.excepthook
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        sys.excepthook = hook  # Inspect sets its own
