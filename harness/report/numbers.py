"""Numbers as stored in the page: six significant digits of a value, three of an error; None where there is none, or it is not finite."""

from __future__ import annotations

import math


def value(number: float | None) -> float | None:
    """Six significant digits."""
    return None if number is None or not math.isfinite(number) else float(f"{number:.6g}")


def error(number: float | None) -> float | None:
    """Three significant digits."""
    return None if number is None or not math.isfinite(number) else float(f"{number:.3g}")


def cut(text: str, limit: int) -> str:
    """At most `limit` characters, and how many more there were."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"
