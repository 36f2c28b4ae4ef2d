"""JSON records of a file, one by one, with the line each stands on. Knows nothing of what they mean."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from harness.core.errors import DataError


class Located(NamedTuple):
    """A JSON object and where it stands, as `file line 12` or `file item 12`."""

    where: str
    value: dict[str, Any]


def read_records(path: Path) -> Iterator[Located]:
    """The objects of a JSON-lines file or of a JSON file with one array. Raises DataError naming file and line.

    Text must be UTF-8 without unpaired surrogates; blank lines are passed over.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    content = content.removeprefix(b"\xef\xbb\xbf")
    if content.lstrip()[:1] == b"[":
        yield from _array(path, content)
        return
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            where = f"{path} line {number}"
            yield Located(where, _object(parse_json(_decode(line, where), where), where))


def _array(path: Path, content: bytes) -> Iterator[Located]:
    for number, value in enumerate(parse_json(_decode(content, str(path)), str(path)), start=1):
        where = f"{path} item {number}"
        yield Located(where, _object(value, where))


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start)
        column = error.start - data.rfind(b"\n", 0, error.start)
        place = f"{where} line {line + 1}" if line else where
        raise DataError(
            f"{place}: not UTF-8 (byte 0x{data[error.start]:02x} at position {column}); convert the file to UTF-8"
        ) from error


def parse_json(text: str, where: str) -> Any:
    """A strict JSON value: no NaN, no infinity, no unpaired surrogate. Raises DataError that begins with `where`."""
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except RecursionError as error:
        raise DataError(f"{where}: JSON is nested too deeply; flatten it") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}" if "\n" in text.rstrip() else f"column {error.colno}"
        raise DataError(f"{where}: not valid JSON ({error.msg} at {place}); correct or remove it") from error
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: holds an unpaired surrogate (\\ud800 to \\udfff), which no text can; repair it"
        ) from error
    except ValueError as error:
        raise DataError(f"{where}: holds a number that JSON does not have ({error}); correct or remove it") from error
    return value


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a JSON object, found {type(value).__name__}; give one object per record")
    return value
