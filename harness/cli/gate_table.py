"""A gate's decision as a table of at most 80 columns, as Markdown and as JSON, and its exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from harness.cli.comparison_table import comparison_document, escaped, limits_cell, markdown_table
from harness.cli.table import number, print_table, stdout
from harness.cli.visible import visible
from harness.core.errors import EXIT_INCONCLUSIVE, EXIT_NO_GO, EXIT_OK
from harness.reward_models.gate import SCALAR, Decision, GateResult, Ruling, worst

GATE_SCHEMA = "harness.gate/1"
CODES: dict[Decision, int] = {"GO": EXIT_OK, "NO-GO": EXIT_NO_GO, "INCONCLUSIVE": EXIT_INCONCLUSIVE}
HEAD = ("component", "demand", "better by", "95% interval", "decision", "items (has)")


def exit_code(found: Sequence[GateResult]) -> int:
    """The exit code of the worst decision."""
    return CODES[worst([one.decision for one in found])]


def print_result(found: GateResult) -> None:
    """Print the rulings, remarks on them, and the decision."""
    console = stdout()
    console.print(f"against  {visible(' '.join(found.comparison.before))}", soft_wrap=True)
    console.print(f"run      {visible(' '.join(found.comparison.after))}", soft_wrap=True)
    console.print()
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    table.add_column(HEAD[0], overflow="fold", min_width=8)
    for name in HEAD[1:]:
        table.add_column(name, justify="right", no_wrap=name != HEAD[-1])
    for ruling in found.rulings:
        table.add_row(*map(visible, _row(ruling)))
    print_table(console, table)
    console.print()
    for line in _said(found):
        console.print(line, soft_wrap=True, highlight=False)
    console.print(_decision(found), soft_wrap=True, highlight=False)


def as_markdown(found: GateResult) -> str:
    """The decision as Markdown."""
    labels = [
        ", ".join(f"`{visible(label)}`" for label in side) for side in (found.comparison.before, found.comparison.after)
    ]
    lines = [f"**{escaped(_decision(found))}** ({labels[1]} against {labels[0]})", ""]
    lines += markdown_table(HEAD, [_row(ruling) for ruling in found.rulings])
    return "\n".join([*lines, "", *(f"- {escaped(line)}" for line in _said(found)), ""])


def as_document(found: Sequence[GateResult]) -> str:
    """Everything, the comparisons included, as JSON."""
    results: list[dict[str, Any]] = [
        {
            "decision": one.decision,
            "rulings": [asdict(ruling) for ruling in one.rulings],
            "unruled": one.unruled,
            "unknown": one.unknown,
            "comparison": comparison_document(one.comparison),
        }
        for one in found
    ]
    decision = worst([one.decision for one in found])
    document = {"schema": GATE_SCHEMA, "decision": decision, "exit_code": CODES[decision], "results": results}
    return json.dumps(document, indent=2, allow_nan=False)


def _row(ruling: Ruling) -> list[str]:
    return [
        ruling.name,
        ruling.rule,
        number(ruling.improvement, sign=True),
        limits_cell(ruling.interval),
        ruling.decision,
        _needed(ruling),
    ]


def _needed(ruling: Ruling) -> str:
    if ruling.n_items_to_decide is not None:
        return f"{ruling.n_items_to_decide:,} ({ruling.n_items:,})"
    if ruling.times_to_decide is not None:
        return f"{ruling.times_to_decide:.1f} times"
    return ""


def _said(found: GateResult) -> Iterator[str]:
    yield from map(visible, found.comparison.remarks)
    rows = {row.name: row for row in found.comparison.components}
    for ruling in found.rulings:
        row = rows.get(ruling.name)
        unpaired = row is not None and row.status == "unpaired"
        if row is not None and unpaired:
            yield visible(f"{ruling.name}: unpaired, as of two samples, so the error is too wide: {row.reason}")
        if ruling.reason is not None and not (row is not None and unpaired and ruling.reason == row.reason):
            yield visible(f"{ruling.name}: {ruling.reason}")
        if row is not None and row.seed_stderr is not None:
            yield visible(f"{ruling.name}: seeds ± {row.seed_stderr:.4f}, which the interval does not hold")
        if row is None and ruling.name == SCALAR and (names := found.comparison.scalar.unpaired):
            yield visible(f"{SCALAR}: {', '.join(names)} entered unpaired, so the error is too wide")
    if found.unruled:
        yield visible(f"no rule for: {', '.join(found.unruled)}")
    if found.unknown:
        yield visible(f"ignore names what neither side has: {', '.join(found.unknown)}")


def _decision(found: GateResult) -> str:
    names = [ruling.name for ruling in found.rulings if ruling.decision == found.decision]
    return visible(found.decision if found.decision == "GO" else f"{found.decision}: {', '.join(names)}")
