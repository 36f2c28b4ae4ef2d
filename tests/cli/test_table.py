"""A table of vectors loses no digit, whatever the width."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from samples import feed, measurement, vector, write

from harness.cli import run
from harness.cli.table import (
    cell,
    gain_cell,
    number,
    print_columns,
    print_table,
    print_vectors,
    print_warnings,
    summary_line,
)
from harness.feed.feed import Feed, read_feed


def shown(vectors: Feed, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, markup=False, emoji=False)
    print_vectors(vectors, console)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 10_000])
@pytest.mark.parametrize("n", [1, 2, 9])
def test_every_number_is_whole_at_every_width(width: int, n: int) -> None:
    vectors = feed(
        *({f"component_{i}": -2.5 - i - step / 7 for i in range(n)} for step in range(3)), trajectory="mix-0"
    )
    lines = shown(vectors, width)
    for one in vectors:
        wanted = [*map(cell, one.components), number(one.scalar), gain_cell(one)]
        assert all(any(number in line for line in lines) for number in wanted), lines
    tables = [line for line in lines if line.startswith("trajectory ") and "step" in line.split()[1:2]]
    assert not tables or max(map(len, lines)) <= width
    if width >= 60:
        assert tables and all(len(line) <= width for line in lines)


GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("width", [80, 120])
def test_the_golden_feed_looks_as_it_did(width: int) -> None:
    """The tables as text, with errors, z, gains and failures: a change is looked at, and the file written anew."""
    text = "\n".join(line.rstrip() for line in shown(read_feed(GOLDEN), width)) + "\n"
    assert text == (GOLDEN / f"show-{width}.txt").read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) <= width


def test_at_80_columns_value_and_z_stay_together_and_each_table_says_which_checkpoint() -> None:
    vectors = feed(
        {"code": -2.0, "prose": -3.0}, {"code": -1.0, "prose": -3.5}, trajectory="a-trajectory-of-27-letters"
    )
    lines = shown(vectors, 80)
    heads = [line.split() for line in lines if line.startswith("trajectory")]
    assert heads == [["trajectory", "step", "code", "z"], ["trajectory", "step", "prose", "z", "scalar", "gain"]]


def test_a_wide_name_is_not_folded_and_a_component_that_failed_says_so() -> None:
    vectors = Feed([vector({"a": None, "b": -1.0}, trajectory="長" * 12)])
    lines = shown(vectors, 80)
    assert any("長" * 12 in line and "failed" in line for line in lines)


def test_a_name_that_leaves_no_room_stands_above_its_steps() -> None:
    names = ("混合比例实验" * 6, "sft-7")
    vectors = Feed(
        [
            vector({f"component_{i}": -1.0 - i for i in range(4)}, trajectory=name, step=s)
            for s in (0, 1)
            for name in names
        ]
    )
    lines = shown(vectors, 80)
    assert [line for line in lines if line.startswith("trajectory")] == [f"trajectory {name}" for name in names]
    assert all(cell_len(line) <= 80 + len("trajectory ") for line in lines)
    assert sum(line.split()[:1] == ["step"] for line in lines) >= 2


ACTS = "\x1b[31mred\x07\x1b]0;title\x07\u202e"


def test_nothing_that_a_feed_says_reaches_the_terminal_as_a_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = vector({"a": measurement(-1.0, 0.1, n_scored=7, status="partial", reason=ACTS)}, trajectory=ACTS, step=1)
    write([made.model_copy(update={"warnings": [ACTS]})], tmp_path / "rewards.jsonl")
    for arguments in (
        ["show", str(tmp_path)],
        ["export", str(tmp_path), "-F", "hf"],
        ["export", str(tmp_path), "-F", "regmix"],
        ["show", str(tmp_path), "-t", ACTS, "--plot", str(tmp_path / "plot.svg")],
    ):
        run(arguments)
        said = "".join(capsys.readouterr())
        assert "red" in said and not set(said) & {"\x1b", "\x07", "\u202e"}, arguments
    assert not set(summary_line(made)) & {"\x1b", "\x07", "\u202e"}
    assert not set((tmp_path / "plot.svg").read_text()) & {"\x1b", "\x07"}


def test_a_running_trajectorys_first_step_is_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    vectors = feed({"code": -2.0, "still": -1.0}, {"code": -1.0, "still": -1.0})
    assert any("measured on 1 checkpoint so far" in words for words in vectors[0].warnings)
    print_warnings(vectors)
    said = capsys.readouterr().err
    assert "measured on 1 checkpoint so far" not in said and "still: standardized is null" in said


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_a_table_of_any_verb_breaks_no_number_in_a_narrow_terminal(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, markup=False, emoji=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("component", overflow="fold", min_width=8)
    cells = ["-6.4459", "+1.5906 ± 0.0884", "[+1.4138, +1.7803]", "<0.0001"]
    for heading in ("before", "change ± error", "95% interval", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_row("a_component_of_a_long_name", *cells)
    table.add_row("b", "", "-", "", "")
    print_table(console, table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(cell in text for cell in cells) and "…" not in text
    assert ("before -6.4459" in text) == (width < 80)


def test_a_comparison_in_a_narrow_terminal_has_every_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        list(feed({"a_component_of_a_long_name": -2.0}, {"a_component_of_a_long_name": -1.0})),
        tmp_path / "rewards.jsonl",
    )
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    monkeypatch.setenv("COLUMNS", "40")
    run(["compare", f"{tmp_path}@0", f"{tmp_path}@10"])
    said = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "a_component_of_a_long_name: before -2.0000, after -1.0000, change ± error +1.0000" in said


@pytest.mark.parametrize(("width", "n_tables"), [(200, 1), (60, 3), (20, 0)])
def test_columns_beside_a_name_are_several_tables_in_a_narrow_terminal_and_lines_in_a_narrower(
    width: int, n_tables: int
) -> None:
    console = Console(file=io.StringIO(), width=width, markup=False, emoji=False)
    cells = [f"0.{i}889 ± 0.1111" for i in range(6)]
    print_columns(console, ("file", ["recording.json"]), [(f"column_{i}", [cell]) for i, cell in enumerate(cells)])
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(cell in text for cell in cells) and "…" not in text
    assert text.count("file ") == n_tables and ("column_0 0.0889" in text) == (n_tables == 0)


def test_what_can_be_measured_is_listed_beside_its_name_in_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(["ls"])
    wide = capsys.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    monkeypatch.setenv("COLUMNS", "80")
    run(["ls"])
    narrow = capsys.readouterr().out
    assert max(map(len, narrow.splitlines())) <= 80 < max(map(len, wide.splitlines()))
    assert narrow.split() == wide.split()
