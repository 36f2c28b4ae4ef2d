"""Comparisons as tables of at most 80 columns, as Markdown and as JSON. Writes to stdout; what is missing goes to stderr."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from harness.cli.table import number, print_grouped, print_table, stdout
from harness.cli.visible import visible
from harness.core.errors import EXIT_INCOMPLETE, EXIT_OK
from harness.core.measurement import Interval
from harness.reward_models.comparison import Comparison
from harness.reward_models.component_comparison import ALPHA, BY_ITEMS, WORDS, ComponentComparison, SideValue, Word
from harness.reward_models.flips import Flips
from harness.reward_models.interval import Z
from harness.reward_models.scalar_comparison import ScalarComparison

COMPARISON_SCHEMA = "harness.comparison/1"
FLIPS_SHOWN = 6
"""Names of items per direction without --all."""


def print_comparison(found: Comparison, *, every: bool) -> None:
    """Two tables (what changed; how sure that is), then what was learned and forgotten, and what flipped."""
    console = stdout()
    console.print(f"before  {visible(' '.join(found.before))}", soft_wrap=True)
    console.print(f"after   {visible(' '.join(found.after))}", soft_wrap=True)
    for head, rows in (_changes(found), _certainty(found)):
        console.print()
        print_table(console, _table(head, rows))
    console.print()
    for line in [*_words(found), *_flip_lines(found, every=every), *map(visible, found.remarks), *_notes(found)]:
        console.print(line, soft_wrap=True, highlight=False)
    console.print()
    print_grouped(_missing(found))


def as_markdown(found: Comparison, *, every: bool) -> str:
    """The comparison as Markdown."""
    lines = [f"**{_code(found.before)} → {_code(found.after)}**", ""]
    for head, rows in (_changes(found), _certainty(found)):
        lines += [*markdown_table(head, rows), ""]
    said = [*_words(found), *_flip_lines(found, every=every), *map(visible, found.remarks), *_notes(found)]
    said += [f"{', '.join(names)}: {reason}" for reason, names in _missing(found).items()]
    return "\n".join([*lines, *(f"- {escaped(line)}" for line in said), ""])


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table; the first column is text, the others are numbers."""
    lines = [" | ".join(map(escaped, row)) for row in (head, *rows)]
    lines.insert(1, " | ".join(["---", *["---:"] * (len(head) - 1)]))
    return [f"| {line} |" for line in lines]


def escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{c}" if c in "|*_<>`[]" else c for c in text)


def _code(labels: Sequence[str]) -> str:
    return ", ".join(f"`{visible(label)}`" for label in labels)


def as_document(found: Sequence[Comparison]) -> str:
    """Everything, as JSON."""
    comparisons = [comparison_document(one) for one in found]
    return json.dumps({"schema": COMPARISON_SCHEMA, "comparisons": comparisons}, indent=2, allow_nan=False)


def comparison_document(found: Comparison) -> dict[str, Any]:
    """One comparison as a JSON object."""
    value = asdict(found)
    for row, component in zip(value["components"], found.components, strict=True):
        row["verdict"] = component.word
    return {**value, "alpha": ALPHA, "said": found.said()}


def unfinished(found: Sequence[Comparison]) -> int:
    """The exit code: 8 where a component of both sides failed or was refused."""
    rows = [row for one in found for row in one.components]
    return EXIT_INCOMPLETE if any(row.status in ("failed", "refused") for row in rows) else EXIT_OK


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    table.add_column(head[0], overflow="fold", min_width=8)
    for name in head[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(visible, row))
    return table


Rows = list[list[str]]


def _changes(found: Comparison) -> tuple[list[str], Rows]:
    rows = [
        [
            row.name,
            _value(row.before),
            _value(row.after),
            with_error(row.change, row.stderr),
            limits_cell(row.interval),
            p_cell(row.p_holm),
        ]
        for row in found.components
    ]
    scalar = found.scalar
    if scalar.change is not None:
        moved = with_error(scalar.change, scalar.stderr)
        rows.append(["scalar", number(scalar.before), number(scalar.after), moved, limits_cell(scalar.interval), ""])
    return ["component", "before", "after", "change ± error", "95% interval", "Holm p"], rows


def _certainty(found: Comparison) -> tuple[list[str], Rows]:
    """How certain a change is; empty columns are left out."""
    scalar = [] if found.scalar.change is None else [found.scalar]
    every: list[ComponentComparison | ScalarComparison] = [*found.components, *scalar]
    empty = [""] * len(scalar)
    columns: list[tuple[str, list[str]]] = [
        ("component", [*(row.name for row in found.components), *("scalar" for _ in scalar)]),
        ("items", [*(_items(row) for row in found.components), *empty]),
        ("p", [p_cell(row.p) for row in every]),
        ("MDE 80%", [number(row.detectable) for row in every]),
        ("unpaired ±", [number(row.unpaired_stderr) for row in every]),
    ]
    if any(row.flips is not None for row in found.components):
        columns.append(("right/wrong", [*(_flip_cell(row.flips) for row in found.components), *empty]))
    if any(row.seed_stderr is not None for row in every):
        columns.append(("seeds ±", [number(row.seed_stderr) for row in every]))
    head = [name for name, _ in columns]
    return head, [list(cells) for cells in zip(*(cells for _, cells in columns), strict=True)]


def _items(row: ComponentComparison) -> str:
    if row.n_paired is None:
        return row.status
    clusters = f"/{row.n_clusters:,}" if row.n_clusters not in (None, row.n_paired) else ""
    return f"{row.n_paired:,}{clusters}"


def _value(side: SideValue | None) -> str:
    if side is None:
        return "-"
    if side.raw is None:
        return side.status
    return number(side.raw)


def with_error(change: float | None, error: float | None) -> str:
    """`+0.1858 ± 0.0094`."""
    if change is None:
        return "-"
    return number(change, sign=True) + ("" if error is None else f" ± {error:.4f}")


def limits_cell(interval: Interval | None) -> str:
    """`[+0.0100, +0.0300]`."""
    return "-" if interval is None else f"[{interval.low:+.4f}, {interval.high:+.4f}]"


def p_cell(p: float | None) -> str:
    """Four decimals, or `<0.0001`."""
    return "-" if p is None else "<0.0001" if p < 0.0001 else f"{p:.4f}"


def _flip_cell(flips: Flips | None) -> str:
    return "" if flips is None else f"{len(flips.to_right):,}/{len(flips.to_wrong):,}"


def _words(found: Comparison) -> Iterator[str]:
    said: dict[Word, list[str]] = {}
    for row in found.components:
        if row.status not in BY_ITEMS:
            words = f"{row.name} ({row.status})"
        elif row.word == "within error":
            words = row.name
        else:
            words = f"{row.name} {with_error(row.change, row.stderr)}"
            words += " (source)" if row.role == "source" else ""
            words += "" if row.higher_is_better else " (lower is better)"
            if row.word != "no error" and row.seed_stderr is not None and abs(row.change or 0.0) <= Z * row.seed_stderr:
                words += " (but within the spread of its seeds)"
        said.setdefault(row.word, []).append(visible(words))
    yield from (f"{word}: {', '.join(said[word])}" for word in WORDS if word in said)


def _flip_lines(found: Comparison, *, every: bool) -> Iterator[str]:
    for row in found.components:
        if row.flips is None:
            continue
        for names, became in ((row.flips.to_right, "right"), (row.flips.to_wrong, "wrong")):
            if names:
                shown = names if every else names[:FLIPS_SHOWN]
                more = f" and {len(names) - len(shown):,} more" if len(names) > len(shown) else ""
                yield visible(f"{row.name}: {len(names):,} became {became}: {', '.join(shown)}{more}")


def _notes(found: Comparison) -> Iterator[str]:
    unpaired: dict[str, list[str]] = {}
    for row in found.components:
        if row.status == "unpaired":
            unpaired.setdefault(row.reason or "", []).append(row.name)
        sides = [("before", row.before), ("after", row.after)]
        for which, side in sides:
            if side is not None and side.raw is not None and side.n_scored < side.n_items:
                why = f": {side.reason}" if side.reason else ""
                yield visible(f"{row.name} {which}: {side.n_scored:,} of {side.n_items:,} items scored{why}")
        for which, side in sides:
            if side is not None and side.seeds.std is not None:
                yield visible(f"{row.name} {which}: {side.seeds.n} seeds, standard deviation {side.seeds.std:.4f}")
    for reason, names in unpaired.items():
        yield visible(f"{', '.join(names)}: unpaired, as of two samples, so the error is too wide: {reason}")
    if found.scalar.reason is not None:
        yield visible(f"scalar: {found.scalar.reason}")
    elif found.scalar.unpaired:
        yield visible(f"scalar: {', '.join(found.scalar.unpaired)} entered unpaired")
    yield f"beyond error: Holm's p over these components is at most {ALPHA}"


def _missing(found: Comparison) -> dict[str, list[str]]:
    """Reason -> components that were not compared."""
    where: dict[str, list[str]] = {}
    for row in found.components:
        if row.status not in BY_ITEMS:
            where.setdefault(f"{row.status}: {row.reason}", []).append(row.name)
    return where
