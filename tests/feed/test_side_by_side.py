"""Feeds beside each other: whose trajectory is whose, and what must not be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from samples import feed, write

from harness.cli import run
from harness.core.errors import EXIT_OK, DataError
from harness.feed.side_by_side import differences, read_feeds


def made(folder: Path, trajectory: str, n: int = 3, **settings: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write(
        feed(*({"code": -2.0 + step / 10} for step in range(n)), trajectory=trajectory, **settings),
        folder / "rewards.jsonl",
    )
    return folder


def test_trajectories_of_one_name_are_told_apart_by_as_much_of_the_path_as_it_takes(tmp_path: Path) -> None:
    paths = [made(tmp_path / "a" / "out", "mix"), made(tmp_path / "b" / "out", "mix"), made(tmp_path / "c", "other")]
    assert [one.trajectories for one in read_feeds(paths)] == [["a/out/mix"], ["b/out/mix"], ["other"]]
    assert [one.trajectories for one in read_feeds(paths[1:])] == [["mix"], ["other"]], "a name of its own stays"
    with pytest.raises(DataError, match="named twice"):
        read_feeds([paths[0], paths[0] / "rewards.jsonl"])


def test_show_puts_several_feeds_into_one_table_and_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(made(tmp_path / "a", "mix")), str(made(tmp_path / "b", "mix"))]
    assert run(["show", *paths, "--last", "2", "--plot", str(tmp_path / "p.svg")]) == EXIT_OK
    said = capsys.readouterr()
    assert [line.split()[:2] for line in said.out.splitlines() if line.startswith(("a/", "b/"))] == [
        *(["a/mix", "10"], ["a/mix", "20"], ["b/mix", "10"], ["b/mix", "20"])
    ]
    assert "the last 4 of 6 vectors, at most 2 of each feed; --all shows every one" in said.out
    assert "<!-- b/mix -->" in (tmp_path / "p.svg").read_text(encoding="utf-8")
    assert run(["show", *paths, "-t", "mix", "--json"]) == EXIT_OK
    assert len(capsys.readouterr().out.splitlines()) == 6
    assert run(["show", *paths, "-t", "b/mix", "--all"]) == EXIT_OK
    assert "a/mix" not in capsys.readouterr().out


def test_columns_of_another_content_are_said_to_be_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [made(tmp_path / "a", "x"), made(tmp_path / "b", "y", definitions={"code": "sha256:other"})]
    assert [words.partition(" (")[0] for words in differences(read_feeds(paths))] == [
        "not the same in every feed: code"
    ]
    assert list(differences(read_feeds(paths[:1]))) == []
    assert run(["show", *map(str, paths)]) == EXIT_OK
    assert "not the same in every feed: code" in capsys.readouterr().err
