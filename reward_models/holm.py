"""Several p values at once: Holm's step-down adjustment. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Adjusted p values in the same order: at most alpha where Holm (1979) rejects at alpha, whichever of the others are true.

    The k-th smallest of m is multiplied by m - k + 1, and is never below a smaller one's. None stays None and is not among the m.
    """
    order = sorted((p, index) for index, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    so_far = 0.0
    for rank, (p, index) in enumerate(order):
        so_far = max(so_far, min(1.0, (len(order) - rank) * p))
        adjusted[index] = so_far
    return adjusted
