"""The lines of a feed: one validated reward vector each. The one parser of `rewards.jsonl`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.core.errors import DataError
from harness.core.journal import Journal
from harness.core.measurement import first_problem
from harness.core.vector import VECTOR_SCHEMA, RewardVector

FEED_FILE = "rewards.jsonl"


def parse_vector(value: dict[str, Any], where: str) -> RewardVector:
    """Validate one line of a feed. Raises DataError naming `where`."""
    declared = value.get("schema")
    if declared != VECTOR_SCHEMA:
        raise DataError(
            f"{where}: schema is {declared!r}, and this version of harness reads {VECTOR_SCHEMA!r} only; "
            "read it with the version that wrote it"
        )
    try:
        return RewardVector.model_validate(value)
    except ValidationError as error:
        raise DataError(f"{where} is not a valid reward vector: {first_problem(error)}") from error


def read_vectors(path: Path) -> list[RewardVector]:
    """Every vector of the feed at `path`, in feed order; none where there is no file. A line still being written is ignored.

    Raises DataError naming the line for anything that is not a valid vector of this version.
    """
    return [parse_vector(value, f"{path} line {number}") for number, value in Journal(path).read()]
