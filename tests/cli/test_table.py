"""A table of vectors loses no digit, whatever the width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from samples import feed, vector

from harness.cli.table import cell, gain_cell, number, print_vectors
from harness.feed.feed import Feed


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
