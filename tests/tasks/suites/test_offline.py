"""What a task asks of the hub while it is built is answered from local files, as often as it is built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import huggingface_hub
import pytest

from harness.tasks.suites.data_source import DataSource
from harness.tasks.suites.offline import offline

pytest.importorskip("datasets")


def download(data: Mapping[str, DataSource], where: Path) -> str:
    """The file that a task finds in the folder that it asked for."""
    with offline(data):
        huggingface_hub.snapshot_download("o/r", repo_type="dataset", local_dir=str(where))
    return (where / "x.txt").read_text()


def repository(folder: Path, text: str) -> DataSource:
    folder.mkdir()
    (folder / "x.txt").write_text(text)
    return DataSource(path=str(folder))


def test_a_repository_is_put_where_it_was_before(tmp_path: Path) -> None:
    """By each process that builds the task, and never into the files that an earlier one was given."""
    one, other = repository(tmp_path / "one", "one"), repository(tmp_path / "other", "other")
    assert [download({"o/r": data}, tmp_path / "here") for data in (one, one, other)] == ["one", "one", "other"]
    assert (tmp_path / "one" / "x.txt").read_text() == "one"


def test_a_repository_that_is_there_already_stays(tmp_path: Path) -> None:
    one = repository(tmp_path / "one", "one")
    assert download({"o/r": one}, tmp_path / "one") == "one" and not (tmp_path / "one" / "x.txt").is_symlink()
