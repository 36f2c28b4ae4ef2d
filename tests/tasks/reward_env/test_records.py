"""Files of JSON records: what is read, and that each fault names its file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.core.errors import DataError
from harness.tasks.reward_env.records import read_records


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
