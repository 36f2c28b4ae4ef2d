"""Whose transcripts a report keeps. A word; imports nothing."""

from __future__ import annotations

from enum import StrEnum


class Keep(StrEnum):
    """Of which simulations the transcript is kept."""

    FAILED = "failed"
    ALL = "all"
    NONE = "none"
