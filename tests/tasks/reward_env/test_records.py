"""Files of JSON records: what is read, and that each fault names its file and line."""

from __future__ import annotations

import gzip
import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from harness.core.errors import DataError
from harness.tasks.reward_env.records import kind_of, read_records


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def fault(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        list(read_records(path))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_malformed_json_on_line_812_names_file_line_and_column(tmp_path: Path) -> None:
    lines = [json.dumps({"q": str(n), "r": "x"}) for n in range(1, 1001)]
    lines[811] = '{"q": "unfinished'
    path = write(tmp_path / "field.jsonl", "\n".join(lines))
    message = fault(path)
    assert message.startswith(f"{path} line 812: not valid JSON (Unterminated string starting at at column 7)")
    assert "correct or remove" in message


def test_blank_lines_are_passed_over_but_still_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "field.jsonl", '\n\n{"a": 1}\n   \n{"a": 2}\n\n{"a": }\n')
    assert fault(path).startswith(f"{path} line 7: not valid JSON")
    good = write(tmp_path / "good.jsonl", '\n{"a": 1}\n \t\n{"a": 2}')
    assert [(record.where, record.value) for record in read_records(good)] == [
        (f"{good} line 2", {"a": 1}),
        (f"{good} line 4", {"a": 2}),
    ]


def test_text_that_is_not_utf8_names_line_and_byte(tmp_path: Path) -> None:
    path = write(tmp_path / "latin.jsonl", b'{"q": "a"}\n{"q": "caf\xe9"}\n')
    assert fault(path).startswith(f"{path} line 2: not UTF-8 (byte 0xe9 at position 11)")
    array = write(tmp_path / "latin.json", b'[{"q": "a"},\n{"q": "caf\xe9"}]\n')
    assert fault(array).startswith(f"{array} line 2: not UTF-8 (byte 0xe9 at position 11)")
    utf16 = write(tmp_path / "utf16.jsonl", '{"q": "a"}\n'.encode("utf-16"))
    assert "line 1: not UTF-8 (byte 0xff at position 1); convert the file to UTF-8" in fault(utf16)


def test_an_unpaired_surrogate_is_refused_and_a_pair_is_a_character(tmp_path: Path) -> None:
    path = write(tmp_path / "field.jsonl", '{"q": "ok"}\n{"q": "\\ud83d"}\n')
    assert "line 2: holds an unpaired surrogate" in fault(path)
    (record,) = read_records(write(tmp_path / "pair.jsonl", '{"q": "\\ud83d\\ude42"}'))
    assert record.value == {"q": "🙂"}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_json_does_not_have_is_refused(tmp_path: Path, number: str) -> None:
    path = write(tmp_path / "field.jsonl", f'{{"q": "a", "score": {number}}}')
    assert fault(path).startswith(f"{path} line 1: holds a number that JSON does not have")


def test_json_nested_too_deeply_is_a_message_and_not_a_crash(tmp_path: Path) -> None:
    path = write(tmp_path / "deep.jsonl", '{"q": ' + "[" * 200_000 + "]" * 200_000 + "}")
    assert "line 1: JSON is nested too deeply" in fault(path)


@pytest.mark.parametrize("value", ["3", '"text"', "null", "true"])
def test_a_line_that_is_no_object_is_refused(tmp_path: Path, value: str) -> None:
    path = write(tmp_path / "field.jsonl", f'{{"q": 1}}\n{value}\n')
    assert fault(path).startswith(f"{path} line 2: expected a JSON object, found ")


def test_a_json_array_is_read_item_by_item(tmp_path: Path) -> None:
    path = write(tmp_path / "field.json", ' \n[{"a": 1},\n {"a": 2}]\n')
    assert [record.where for record in read_records(path)] == [f"{path} item 1", f"{path} item 2"]
    broken = write(tmp_path / "broken.json", '[{"a": 1},\n {"a" 2}]')
    assert fault(broken).startswith(f"{broken}: not valid JSON (Expecting ':' delimiter at line 2 column 7)")
    mixed = write(tmp_path / "mixed.json", '[{"a": 1}, 5]')
    assert fault(mixed).startswith(f"{mixed} item 2: expected a JSON object, found int")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    for content in ('{"a": 1}\n', '[{"a": 1}]'):
        (record,) = read_records(write(tmp_path / "bom.json", b"\xef\xbb\xbf" + content.encode()))
        assert record.value == {"a": 1}


def test_only_line_feeds_end_a_record(tmp_path: Path) -> None:
    """U+2028, U+0085 and form feeds may stand unescaped in JSON strings; `str.splitlines` would cut there."""
    text = "a\u2028b\u2029c\u0085d"
    lines = [json.dumps({"q": text}, ensure_ascii=False), json.dumps({"q": "next"})]
    path = write(tmp_path / "field.jsonl", "\r\n".join(lines) + "\r\n")
    assert [record.value["q"] for record in read_records(path)] == [text, "next"]


def test_a_file_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    assert fault(tmp_path / "none.jsonl") == f"cannot read {tmp_path / 'none.jsonl'}: No such file or directory"
    assert fault(tmp_path) == f"cannot read {tmp_path}: Is a directory"


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    assert list(read_records(write(tmp_path / "empty.jsonl", ""))) == []
    assert list(read_records(write(tmp_path / "blank.jsonl", "\n \n"))) == []
    assert list(read_records(write(tmp_path / "empty.json", "[]"))) == []


def values(path: Path) -> list[dict[str, object]]:
    return [record.value for record in read_records(path)]


def test_a_cell_is_its_text_and_a_row_its_number(tmp_path: Path) -> None:
    rows = 'q,r,id,flag\n"two\nlines, ""quoted""",0.50,,True\n\n,NA,007,12345678901234567890\n'
    path = write(tmp_path / "x.csv", "\ufeff" + rows)
    assert [record.where for record in read_records(path)] == [f"{path} row 1", f"{path} row 2"]
    assert values(path) == [
        {"q": 'two\nlines, "quoted"', "r": "0.50", "flag": "True"},
        {"q": "", "r": "NA", "id": "007", "flag": "12345678901234567890"},
    ]
    assert values(write(tmp_path / "x.tsv", "q\tr\na,b\t1e3\n")) == [{"q": "a,b", "r": "1e3"}]


def test_a_cell_may_be_longer_than_a_block(tmp_path: Path) -> None:
    text = "long " * 400_000
    assert values(write(tmp_path / "x.csv", f"q,r\na,b\n{text},c\n")) == [{"q": "a", "r": "b"}, {"q": text, "r": "c"}]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("q,r\na,b\na\n", "row 2: 1 cells under 2 columns; give every row the header's columns"),
        ("q,r\na,b,c\n", "row 1: 3 cells under 2 columns"),
        ('q,r\na,b\na,"b\nc,d\n', "row 2: not valid CSV (unexpected end of data); correct its quotes"),
        ('q,r\na,"b" x\n', "row 1: not valid CSV ("),
        ('q,r\na,"b\\"c"\n', "row 1: not valid CSV ("),
        ("q,q\na,b\n", "column 'q' stands twice; rename one of them"),
        (b"q,r\na,caf\xe9\n", "line 2: not UTF-8 (byte 0xe9 at position 6)"),
    ],
)
def test_a_table_that_is_not_whole_is_named(tmp_path: Path, content: str | bytes, words: str) -> None:
    path = write(tmp_path / "x.csv", content)
    message = fault(path)
    assert message.startswith(str(path)) and words in message


def test_a_table_without_rows_has_no_records(tmp_path: Path) -> None:
    assert values(write(tmp_path / "x.csv", "q,r\n")) == values(write(tmp_path / "y.csv", "")) == []


def test_parquet_keeps_text_and_a_null_inside_a_struct_is_no_key(tmp_path: Path) -> None:
    rows = [
        {"q": "0.50", "turns": [{"role": "a", "weight": None}, {"role": "b", "weight": 0}], "on": date(2020, 1, 2)},
        {"q": None, "turns": [], "on": None},
    ]
    path = tmp_path / "x.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert values(path) == [
        {"q": "0.50", "turns": [{"role": "a"}, {"role": "b", "weight": 0}], "on": "2020-01-02"},
        {"q": None, "turns": [], "on": None},
    ]
    parquet.write_table(pyarrow.table({"n": [Decimal("0.50")]}), path)
    assert values(path) == [{"n": "0.50"}]
    assert fault(write(tmp_path / "y.parquet", path.read_bytes()[:-9])).startswith(
        f"cannot read {tmp_path / 'y.parquet'}: not a whole Parquet file ("
    )


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".GZ"])
def test_a_packed_file_is_unpacked_and_a_damaged_one_named(tmp_path: Path, suffix: str) -> None:
    plain = b'{"a": 1}\n{"a": 2}\n'
    packed = zstandard.compress(plain) if suffix == ".zst" else gzip.compress(plain)
    assert values(write(tmp_path / f"x.jsonl{suffix}", packed)) == [{"a": 1}, {"a": 2}]
    for content in (b"no archive", packed[: len(packed) // 2]):
        path = write(tmp_path / f"y.jsonl{suffix}", content)
        assert fault(path).startswith(f"cannot read {path}: ")


def test_several_frames_of_zstandard_are_one_file(tmp_path: Path) -> None:
    frames = zstandard.compress(b'{"a": 1}\n') + zstandard.compress(b'{"a": 2}\n')
    assert values(write(tmp_path / "x.jsonl.zst", frames)) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("name", "kind"), [("x.csv.gz", ".csv"), ("x.CSV", ".csv"), ("x.v1.jsonl.zst", ".jsonl"), ("x.gz", ""), ("x", "")]
)
def test_the_kind_of_a_file_is_its_suffix_without_the_packing(name: str, kind: str) -> None:
    assert kind_of(Path(name)) == kind


@pytest.mark.parametrize("text", ['{"q": "a", "r": "b", "r": "c"}', '{"q": "a", "r": "b", "x": [{"r": 1, "r": 1}]}'])
def test_a_key_that_stands_twice_in_one_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.jsonl").write_text(text + "\n")
    with pytest.raises(DataError, match="line 1: key 'r' stands twice in one object; remove one of them"):
        list(read_records(tmp_path / "data.jsonl"))


def test_a_parquet_file_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    columns = [pyarrow.array(["a"]), pyarrow.array(["b"]), pyarrow.array(["c"])]
    parquet.write_table(pyarrow.Table.from_arrays(columns, names=["q", "r", "r"]), tmp_path / "data.parquet")
    with pytest.raises(DataError, match="column 'r' stands twice; rename one of them"):
        list(read_records(tmp_path / "data.parquet"))
