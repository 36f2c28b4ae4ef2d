"""Records of a data file, one by one, each with its place. Knows nothing of what they mean.

JSON lines, a JSON array, CSV, TSV or Parquet, each of them plain, gzipped or with zstandard. No types are inferred: a JSON
value keeps its type, and every cell of a CSV file is text.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from harness.core.errors import DataError

PACKED = (".gz", ".zst")
DELIMITERS = {".csv": ",", ".tsv": "\t"}


class Located(NamedTuple):
    """A JSON object and where it stands, as `file line 12`, `file item 12` or `file row 12`."""

    where: str
    value: dict[str, Any]


def kind_of(path: Path) -> str:
    """The suffix of a file without those of its packing, lower-cased: `.csv` of `x.csv.gz`; empty where there is none."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read_records(path: Path) -> Iterator[Located]:
    """The objects of a JSON-lines file or of a JSON file with one array, or the rows of a table. Raises DataError naming
    file and place.

    Text must be UTF-8 without unpaired surrogates; blank lines are skipped.
    """
    content = read_content(path)
    kind = kind_of(path)
    if kind == ".parquet" or content[:4] == b"PAR1":
        yield from _parquet(path, content)
        return
    content = content.removeprefix(b"\xef\xbb\xbf")
    if kind in DELIMITERS:
        yield from _table(path, content, DELIMITERS[kind])
        return
    if content.lstrip()[:1] == b"[":
        yield from _array(path, content)
        return
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            where = f"{path} line {number}"
            yield Located(where, _object(parse_json(_decode(line, where), where), where))


def read_content(path: Path) -> bytes:
    """The bytes of a file, unpacked. Raises DataError."""
    import zstandard

    try:
        content = path.read_bytes()
        suffix = path.suffix.lower()
        if suffix == ".gz":
            return gzip.decompress(content)
        if suffix == ".zst":
            return _frames(content)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f"cannot read {path}: {cause}") from error
    return content


def _frames(content: bytes) -> bytes:
    """The content of all frames of a zstandard file; its stream reader would accept a truncated one. Raises EOFError."""
    import zstandard

    parts = []
    while content:
        frame = zstandard.ZstdDecompressor().decompressobj()
        parts.append(frame.decompress(content))
        if not frame.eof:
            raise EOFError("the file is cut off")
        content = frame.unused_data
    return b"".join(parts)


def _array(path: Path, content: bytes) -> Iterator[Located]:
    for number, value in enumerate(parse_json(_decode(content, str(path)), str(path)), start=1):
        where = f"{path} item {number}"
        yield Located(where, _object(value, where))


def _table(path: Path, content: bytes, delimiter: str) -> Iterator[Located]:
    """Rows of text: `0.50`, `007`, `NA` and `True` stay text, and an empty cell is the empty text.

    An empty `id` or `cluster` is left out. Strict, unlike pyarrow's reader, which reads one long cell after a quote that is
    never closed.
    """
    text = io.StringIO(_decode(content, str(path)), newline="")
    limit = csv.field_size_limit(len(content) + 1)
    rows: list[list[str]] = []
    try:
        rows.extend(row for row in csv.reader(text, delimiter=delimiter, strict=True) if row)
    except csv.Error as error:
        raise DataError(f"{path} row {max(len(rows), 1)}: not valid CSV ({error}); correct its quotes") from error
    finally:
        csv.field_size_limit(limit)
    header = rows[0] if rows else []
    _check_columns(path, header)
    for number, row in enumerate(rows[1:], start=1):
        where = f"{path} row {number}"
        if len(row) != len(header):
            raise DataError(
                f"{where}: {len(row)} cells under {len(header)} columns; give every row the header's columns"
            )
        cells = zip(header, row, strict=True)
        yield Located(where, {name: cell for name, cell in cells if cell or name not in ("id", "cluster")})


def _check_columns(path: Path, names: list[str]) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{path}: column {twice[0]!r} stands twice; rename one of them")


def _parquet(path: Path, content: bytes) -> Iterator[Located]:
    """Rows of a Parquet file. A null inside a struct counts as a missing key: Parquet does not distinguish them."""
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(io.BytesIO(content))
        _check_columns(path, file.schema_arrow.names)
        batches = file.iter_batches()
        number = 0
        for batch in batches:
            for row in batch.to_pylist(maps_as_pydicts="strict"):
                number += 1
                yield Located(f"{path} row {number}", {name: _plain(value) for name, value in row.items()})
    except KeyError as error:
        raise DataError(f"{path}: a map holds a key twice ({error}); remove one of them") from error
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        cause = " ".join(str(error).split())
        raise DataError(f"cannot read {path}: not a whole Parquet file ({cause}); copy it again") from error


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, date | time | Decimal) else value


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
    """A strict JSON value: no NaN, no infinity, no unpaired surrogate, no key twice. Raises DataError that begins with `where`."""
    try:
        value = json.loads(text, object_pairs_hook=_once)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except RecursionError as error:
        raise DataError(f"{where}: JSON is nested too deeply; flatten it") from error
    except _TwiceError as error:
        raise DataError(f"{where}: key {error.args[0]!r} stands twice in one object; remove one of them") from error
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


class _TwiceError(Exception):
    """A key that stands twice in one object: JSON readers differ in which of the two they take."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(next(key for key in keys if keys.count(key) > 1))
    return value


def check_json(value: Any, where: str) -> None:
    """Refuse values of a table that JSON does not have, inside a list or an object: bytes, NaN. Raises DataError."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: holds what JSON does not have ({error}); correct or remove it") from error


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a JSON object, found {type(value).__name__}; give one object per record")
    return value
