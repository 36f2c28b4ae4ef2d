"""The append-only file: a line is wholly there or not there, whatever happens to the writer."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import DataError, StateError
from harness.core.journal import Journal, write_atomically

LINES = ['{"a": 1}', '{"text": "h\\u00e9llo 日本語"}', "{}"]

WRITE_WITH_LIMIT = """
import resource, sys
from pathlib import Path
from harness.core.errors import StateError
from harness.core.journal import Journal, write_atomically
path, limit, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    {call}
except StateError as error:
    print(error)
"""


def write_with_limit(call: str, path: Path, *, limit: int, size: int) -> str:
    """Write `size` bytes in a process whose files may have `limit` bytes: a full disk, half way through."""
    code = WRITE_WITH_LIMIT.replace("{call}", call)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(limit), str(size)], capture_output=True, text=True, check=True
    )
    return done.stdout


def filled(path: Path) -> Journal:
    journal = Journal(path)
    for line in LINES:
        journal.append(line)
    return journal


def test_what_is_appended_is_read_back_in_order_with_line_numbers(tmp_path: Path) -> None:
    journal = filled(tmp_path / "new" / "folder" / "j.jsonl")
    assert journal.read() == [(number, json.loads(line)) for number, line in enumerate(LINES, start=1)]


def test_a_journal_that_does_not_exist_yet_is_empty(tmp_path: Path) -> None:
    assert Journal(tmp_path / "none.jsonl").read() == []


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_cut_at_any_byte_committed_lines_survive_and_the_next_line_is_whole(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = filled(Path(folder) / "j.jsonl")
        content = journal.path.read_bytes()
        cut = data.draw(st.integers(0, len(content)))
        journal.path.write_bytes(content[:cut])
        survivors = [json.loads(line) for line in LINES[: content[:cut].count(b"\n")]]
        assert [value for _, value in journal.read()] == survivors, "a reader ignores the torn tail"
        journal.append('{"next": true}')
        assert [value for _, value in journal.read()] == [*survivors, {"next": True}]
        committed = content[: content[:cut].rfind(b"\n") + 1]
        assert journal.path.read_bytes() == committed + b'{"next": true}\n', "nothing of the torn line is left"


@pytest.mark.parametrize("size", [10, 65_535, 65_536, 65_537, 200_000])
def test_lines_and_torn_tails_of_any_size_are_told_apart(tmp_path: Path, size: int) -> None:
    journal = filled(tmp_path / "j.jsonl")
    journal.append(json.dumps({"long": "x" * size}))
    committed = journal.path.read_bytes()
    with journal.path.open("ab") as stream:
        stream.write(b"x" * size)
    journal.append("{}")
    assert journal.path.read_bytes() == committed + b"{}\n"
    journal.append("{}")
    assert len(journal.read()) == len(LINES) + 3


def test_a_line_with_a_newline_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    with pytest.raises(ValueError, match="newline"):
        journal.append('{"a":\n1}')
    assert not journal.path.exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{oops}", "line 2: not valid JSON"),
        (b"", "line 2: not valid JSON"),
        (b"\xff{}", "line 2: not valid JSON"),
        (b"[1]", "line 2: expected a JSON object, found list"),
        (b"[" * 100_000, "line 2: not valid JSON"),
    ],
)
def test_an_invalid_committed_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(b"{}\n" + line + b"\n{}\n")
    with pytest.raises(DataError, match=message):
        Journal(path).read()


def test_a_folder_in_place_of_the_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        Journal(tmp_path).read()
    with pytest.raises(StateError, match="cannot write"):
        Journal(tmp_path).append("{}")


def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    journal = filled(tmp_path / "j.jsonl")
    before = journal.path.read_bytes()
    message = write_with_limit("Journal(path).append('x' * size)", journal.path, limit=len(before) + 5_000, size=20_000)
    assert "cannot write" in message
    assert "make room" in message
    assert journal.path.read_bytes() == before


def test_atomic_write_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_atomically(path, b"long content")
    write_atomically(path, b"short")
    assert path.read_bytes() == b"short"
    assert list(path.parent.iterdir()) == [path], "no temporary file stays behind"


def test_a_full_disk_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    message = write_with_limit("write_atomically(path, b'x' * size)", path, limit=5_000, size=20_000)
    assert "cannot write" in message
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_where_a_folder_is_needed_is_a_state_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot write"):
        write_atomically(tmp_path / "file" / "below", b"x")
    with pytest.raises(StateError, match="cannot write"):
        Journal(tmp_path / "file" / "below").append("{}")
