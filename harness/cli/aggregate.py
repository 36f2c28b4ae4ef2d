"""harness aggregate: benchmarks that lm-eval measured, averaged as the paper averages them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.core.measurement import Measurement
    from harness.lm_eval.results import ModelResults
    from harness.reward_models.benchmarks import Average, Averages


def aggregate(
    results: Annotated[list[str], typer.Argument(help="lm-eval's results_*.json, or folders that have them.")],
    suite: Annotated[
        list[str] | None,
        typer.Option(
            "--suite", help="Only these suites (`harness ls` has them); default: those of which anything is there."
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Also write the benchmarks as measurements, and the averages."),
    ] = None,
) -> None:
    """Show benchmarks of any lm-eval run with the suites' averages and the overall one, with standard errors.

    An average that lacks a benchmark is shown as missing, never as the mean of the others.
    """
    from harness.lm_eval.results import read_results
    from harness.reward_models.benchmarks import Score, averages

    models = read_results(results)
    names = _suites(suite, models)
    made = {
        model.label: averages(
            names, {n: Score(value=m.raw, stderr=_error(m)) for n, m in model.measurements.items() if m.raw is not None}
        )
        for model in models
    }
    if json_file is not None:
        _write(json_file, models, made)
    _show(models, names, made)


def _suites(asked: list[str] | None, models: list[ModelResults]) -> dict[str, list[str]]:
    from harness.core.errors import DataError, SpecError
    from harness.tasks.suites.catalog import suites

    known = {suite: [benchmark.name for benchmark in benchmarks] for suite, benchmarks in suites().items()}
    for name in asked or []:
        if name not in known:
            raise SpecError(f"--suite {name}: there is {', '.join(known)}")
    there = {name for model in models for name in model.measurements}
    chosen = {suite: names for suite, names in known.items() if (suite in asked if asked else there & set(names))}
    if not chosen:
        others = list(dict.fromkeys(name for model in models for name in model.others))
        raise DataError(f"no benchmark of a suite in these results; they have {', '.join(others[:10]) or 'nothing'}")
    return chosen


def _show(models: list[ModelResults], suites: dict[str, list[str]], made: dict[str, Averages]) -> None:
    """A row per benchmark and average, a column per model, in percent; what is missing or odd goes to stderr."""
    from rich.table import Table

    from harness.cli.table import print_grouped, print_table, stdout
    from harness.cli.visible import visible

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("percent")
    for model in models:
        table.add_column(visible(model.label), justify="right", no_wrap=True)
    for suite, names in suites.items():
        for name in names:
            found = [model.measurements.get(name) for model in models]
            table.add_row(name, *[_percent(m.raw, _error(m)) if m else "-" for m in found])
        table.add_row(
            f"{suite} ({len(names)})", *[_average(made[model.label].suites[suite]) for model in models], style="bold"
        )
        table.add_section()
    n = sum(len(names) for names in suites.values())
    table.add_row(f"overall ({n})", *[_average(made[model.label].overall) for model in models], style="bold")
    print_table(stdout(), table)
    said: dict[str, list[str]] = {}
    for model in models:
        if missing := made[model.label].overall.missing:
            said.setdefault(f"missing: {', '.join(missing)}", []).append(visible(model.label))
        for remark in model.remarks:
            said.setdefault(visible(remark), []).append(visible(model.label))
    print_grouped(said)


def _error(measurement: Measurement) -> float | None:
    """lm-eval's standard error; None for one of 0, which few answers can give by chance."""
    from harness.reward_models.statistics import believable

    return believable(measurement.raw, measurement.stderr, measurement.n_scored)


def _percent(value: float | None, stderr: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.2f}" + ("" if stderr is None else f" ± {100 * stderr:.2f}")


def _average(average: Average) -> str:
    return _percent(average.value, average.stderr) if average.value is not None else "missing"


def _write(path: Path, models: list[ModelResults], made: dict[str, Averages]) -> None:
    import json
    from dataclasses import asdict

    from harness.core.journal import write_atomically

    document = {
        "schema": "harness.benchmarks/1",
        "models": [
            {
                "model": model.label,
                "components": [
                    {"name": name, "kind": "lm_eval", **m.model_dump(mode="json")}
                    for name, m in model.measurements.items()
                ],
                "averages": {
                    **{suite: asdict(average) for suite, average in made[model.label].suites.items()},
                    "overall": asdict(made[model.label].overall),
                },
                "remarks": model.remarks,
            }
            for model in models
        ],
    }
    write_atomically(path, json.dumps(document, indent=2, allow_nan=False).encode() + b"\n")
