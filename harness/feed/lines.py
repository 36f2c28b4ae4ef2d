"""The lines of a feed: one validated reward vector each. The one parser of `rewards.jsonl`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.core.errors import DataError
from harness.core.journal import Journal, json_object
from harness.core.measurement import first_problem
from harness.core.uncollected import uncollected
from harness.core.vector import VECTOR_SCHEMA, RewardVector

FEED_FILE = "rewards.jsonl"


def parse_vector(value: dict[str, Any], where: str) -> RewardVector:
    """Validate one line of a feed, already decoded. Raises DataError naming `where`."""
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


def parse_lines(lines: Iterable[tuple[int, bytes]], path: Path) -> list[RewardVector]:
    """The vectors of numbered lines of the feed at `path`. What vectors have in common is held in memory once.

    Raises DataError naming the line for anything that is not a valid vector of this version.
    """
    shared: dict[str, tuple[Any, Any]] = {}
    fields: dict[frozenset[str], set[str]] = {}
    with uncollected():
        return [_shared(_parse(line, f"{path} line {number}"), shared, fields) for number, line in lines]


def read_vectors(path: Path) -> list[RewardVector]:
    """Every vector of the feed at `path`, in feed order; none where there is no file. A line still being written is ignored.

    Raises DataError naming the line for anything that is not a valid vector of this version.
    """
    return parse_lines(Journal(path).lines(), path)


def _parse(line: bytes, where: str) -> RewardVector:
    try:
        return RewardVector.model_validate_json(line)
    except ValidationError:
        return parse_vector(json_object(line, where), where)  # raises with a message


def _shared(
    vector: RewardVector, known: dict[str, tuple[Any, Any]], fields: dict[frozenset[str], set[str]]
) -> RewardVector:
    """The vector with the tasks and packages of an equal one before it, and pydantic's sets of the keys that were given: they are
    most of its size, and nobody changes them, for the records are frozen."""
    provenance = vector.provenance
    for record in (vector, vector.checkpoint, vector.reference, provenance, *vector.components):
        given = record.model_fields_set
        object.__setattr__(record, "__pydantic_fields_set__", fields.setdefault(frozenset(given), given))
    key = f"{provenance.tasks}{provenance.packages}"
    tasks, packages = known.setdefault(key, (provenance.tasks, provenance.packages))
    provenance.__dict__.update(tasks=tasks, packages=packages)
    return vector
