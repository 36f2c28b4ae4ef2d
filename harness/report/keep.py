"""Which transcripts a report keeps. An enum that imports nothing of ours."""

from __future__ import annotations

from enum import StrEnum


class Keep(StrEnum):
    """The simulations whose transcripts are kept."""

    FAILED = "failed"
    ALL = "all"
    NONE = "none"
