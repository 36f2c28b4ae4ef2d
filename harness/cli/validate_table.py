"""Results of `harness validate` as tables of 80 columns on stdout."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from harness.cli.table import print_table, stdout
from harness.cli.visible import visible
from harness.core.measurement import Interval
from harness.reward_models.agreement import Agreement, Estimated
from harness.reward_models.signal import Signal
from harness.reward_models.steering import Verdict, words_of
from harness.run.scale import Scale
from harness.run.validation import Validated, Validation


def _runs(scale: Scale) -> str:
    n_mixtures = len(scale.recipes)
    return f"{scale.n_runs} run{'s' * (scale.n_runs != 1)} of {n_mixtures} mixture{'s' * (n_mixtures != 1)}"


def print_validation(made: Validation) -> None:
    """Signal and noise of the proxies, of the targets, and how the proxies decide."""
    console = stdout()
    small, large = made.proxies, made.against
    console.print(f"proxies: {_runs(small)}", soft_wrap=True)
    verdicts = {one.name: one.verdict for one in made.components}
    print_table(console, _signals({one.name: one.signal for one in made.components}, None if large else verdicts))
    if large is not None:
        console.print(
            f"\ntargets: {_runs(large)}, {made.n_matched} of them the proxies' too",
            soft_wrap=True,
        )
        print_table(console, _signals(made.targets, None))
        for name in made.targets:
            console.print(f"\nin the order of {visible(name)}", soft_wrap=True)
            console.print("decisions: pairs of mixtures in its order; seen, and without noise [95%]", soft_wrap=True)
            deciding = name == next(iter(made.targets))
            print_table(console, _agreements(made, name, deciding=deciding))
    console.print()
    for verdict in dict.fromkeys(verdicts.values()):
        names = ", ".join(visible(name) for name, one in verdicts.items() if one == verdict)
        console.print(f"{names}: {words_of(verdict, target=large is not None)}", soft_wrap=True)


def _table(*columns: str) -> Table:
    """A table of which only the first column wraps in a narrow terminal: digits are never cut."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(columns[0], overflow="fold", min_width=6)
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True, min_width=4)
    return table


def _signals(signals: Mapping[str, Signal], verdicts: Mapping[str, Verdict | None] | None) -> Table:
    columns = ["component", "signal", "item", "step", "seed", "noise", "signal/noise"]
    table = _table(*columns, *([] if verdicts is None else ["verdict"]))
    for name, one in signals.items():
        signal = f"<{one.spread:.3g}" if one.signal is None and one.spread is not None else _short(one.signal)
        parts = (one.item, one.step, one.seed, one.noise)
        ratio = "-" if one.snr is None else f"{one.snr:.2f}{_limits(one.snr_interval)}"
        last = [] if verdicts is None else [verdicts[name] or "open"]
        table.add_row(visible(name), signal, *map(_short, parts), ratio, *last)
    return table


def _agreements(made: Validation, target: str, *, deciding: bool) -> Table:
    columns = ["component", "seen", "decisions", "seen", "rank correlation"]
    table = _table(*columns, *(["verdict", "weight"] if deciding else []))
    for one in made.components:
        found = one.agreements.get(target)
        last = [one.verdict or "open", _weight(made, one)] if deciding else []
        table.add_row(visible(one.name), *_cells(found), *last)
    return table


def _cells(found: Agreement | None) -> list[str]:
    cells = []
    for one in (None, None) if found is None else (found.decisions, found.rank):
        cells += ["-" if one is None else f"{one.seen:.2f}", _corrected(one)]
    return cells


def _corrected(one: Estimated | None) -> str:
    """The corrected value with its interval; where there is no correction, the interval of the value as seen."""
    if one is None:
        return "-"
    if one.corrected is None:
        return f"seen{_limits(one.interval)}"
    return f"{one.corrected:.2f}{_limits(one.corrected_interval)}"


def _limits(limits: Interval | None) -> str:
    return "" if limits is None else f" [{limits.low:.2f}, {limits.high:.2f}]"


def _weight(made: Validation, one: Validated) -> str:
    return "-" if made.weights is None else f"{made.weights[one.name]:.3f}"


def _short(value: float | None) -> str:
    """Three significant digits."""
    return "-" if value is None else f"{value:.3g}"
