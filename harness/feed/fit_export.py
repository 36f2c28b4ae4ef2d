"""A feed as the tables on which olmix and RegMix fit score = f(mixture): what a run was trained on, and how it scored.

A row is a run, from its start to its last step, or (on request) to each of its steps. Every number but a run's name is read
as a domain or as a metric by these readers, so errors are in files of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.core.errors import DataError, why_unreadable
from harness.core.journal import write_atomically
from harness.core.vector import ComponentRecord, RewardVector
from harness.core.written_json import read_json
from harness.feed.export import Rows, refuse_empty
from harness.feed.feed import Feed
from harness.feed.runs import NoShares, Shares, check_alike, runs_of, shares_up_to

OLMIX_OWN = ("run", "run_id", "name", "index")
"""Columns that olmix's loader makes or reads itself."""
REGMIX_OWN = ("index",)


class Exported(NamedTuple):
    """The files, and the rows and columns that are not in them, each with its reason."""

    paths: list[Path]
    left_out: list[str]


class _Row(NamedTuple):
    name: str
    shares: Shares
    components: Mapping[str, ComponentRecord]
    vectors: tuple[RewardVector, ...]


def write_olmix(feed: Feed, folder: Path, *, rows: Rows = "last", sizes: Mapping[str, float] | None = None) -> Exported:
    """`ratios.csv` (a column per domain, rows sum to 1), `metrics.csv` (`<component>_bpb`, lower is better) and, where the
    errors are known, `metrics_stderr.csv` of the same shape.

    Joined on `run_id`, the column that every version of olmix's CSV loader reads. A failed component is an empty cell, whose
    row olmix drops with a warning. With sizes of the domains (tokens; given, or in the mixtures) also `priors.json`, whose
    content olmix takes as `priors`. Raises DataError where what a run was trained on is not known, the feed has no component
    in bits per byte, or a domain has a name that olmix's loader uses itself.
    """
    refuse_empty(feed)
    check_alike(runs_of(feed), per_token=False)
    made = _rows(feed, rows)
    domains = _domains(made, OLMIX_OWN, "olmix")
    names = [
        name
        for name in _columns(made)
        if any("bits_per_byte" in row.components[name].detail for row in made if name in row.components)
    ]
    if not names:
        raise DataError("no component of the feed is measured in bits per byte, the only metric olmix fits on")
    priors = _priors(made, domains, sizes)
    files = {
        "ratios.csv": [
            {"run_id": row.name} | {domain: row.shares.get(domain, 0.0) for domain in domains} for row in made
        ],
        "metrics.csv": [{"run_id": row.name} | _details(row, names, "bits_per_byte") for row in made],
        "metrics_stderr.csv": [{"run_id": row.name} | _details(row, names, "bits_per_byte_stderr") for row in made],
    }
    written = _write(folder, files)
    if priors is not None:
        path = folder / "priors.json"
        write_atomically(path, json.dumps(priors, indent=2).encode() + b"\n")
        written.append(path)
    return Exported(written, [])


def write_regmix(feed: Feed, folder: Path, *, rows: Rows = "last") -> Exported:
    """`train_mixture.csv` (a column per domain), `train_target.csv` (`<component>_loss`) and, where errors are known,
    `train_target_stderr.csv` of the same shape.

    RegMix's notebook takes the columns after the first by position, the rows of both files by order, and the mixtures with
    the lowest predictions: so all have the same rows, without gaps, and what is better when higher is negated (a log-prob
    becomes a loss in nats per token). A run with a failed component is left out and named. Raises DataError as `write_olmix`
    does, and where nothing is left.
    """
    refuse_empty(feed)
    check_alike(runs_of(feed))
    made = _rows(feed, rows)
    names, left_out = [], []
    for name in _columns(made):
        if any(_raw(row, name) is not None for row in made):
            names.append(name)
        else:
            left_out.append(f"{name}: was measured in no run")
    whole = []
    for row in made:
        missing = [name for name in names if _raw(row, name) is None]
        if missing:
            left_out.append(f"{row.name}: {'; '.join(_why(row, name) for name in missing)}")
        else:
            whole.append(row)
    if not whole or not names:
        raise DataError(f"no run has every component measured, and RegMix fits on runs without gaps: {left_out[0]}")
    domains = _domains(whole, REGMIX_OWN, "RegMix")
    files: dict[str, list[dict[str, Any]]] = {
        "train_mixture.csv": [
            {"index": row.name} | {domain: row.shares.get(domain, 0.0) for domain in domains} for row in whole
        ],
        "train_target.csv": [
            {"index": row.name} | {f"{name}_loss": _loss(row, name) for name in names} for row in whole
        ],
        "train_target_stderr.csv": [
            {"index": row.name} | {f"{name}_loss": row.components[name].stderr for name in names} for row in whole
        ],
    }
    return Exported(_write(folder, files), left_out)


def _rows(feed: Feed, rows: Rows) -> list[_Row]:
    """Of every run its last step, or all. Raises DataError where a mixture is not known, or two rows have one name."""
    made: list[_Row] = []
    for run in runs_of(feed):
        known = list(zip(run.steps, shares_up_to(run), strict=True))
        for step, shares in known if rows == "steps" else known[-1:]:
            if isinstance(shares, NoShares):
                if rows == "steps" and not shares.started:
                    continue  # a model before its training has no mixture to fit on
                raise DataError(shares.reason)
            name = run.name if rows == "last" or step.step is None else f"{run.name}-step{step.step}"
            made.append(_Row(name, shares, step.components, step.vectors))
    if not made:
        raise DataError("no step of the feed was trained on a mixture; there is nothing to fit on")
    seen: set[str] = set()
    for row in made:
        if row.name in seen:
            raise DataError(f"two rows would be called {row.name!r}; rename one of the trajectories")
        seen.add(row.name)
    return made


def _domains(rows: Sequence[_Row], own: Sequence[str], reader: str) -> list[str]:
    """In order of first appearance. Raises DataError for a name that the reader uses itself."""
    domains = list(dict.fromkeys(domain for row in rows for domain in row.shares))
    for domain in domains:
        if domain in own:
            raise DataError(
                f"{reader} would take a domain called {domain!r} for a column of its own; rename it in mixture.json"
            )
    return domains


def _columns(rows: Iterable[_Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.components))


def _details(row: _Row, names: Sequence[str], key: str) -> dict[str, Any]:
    return {f"{name}_bpb": row.components[name].detail.get(key) if name in row.components else None for name in names}


def _raw(row: _Row, name: str) -> float | None:
    return row.components[name].raw if name in row.components else None


def _loss(row: _Row, name: str) -> float:
    component = row.components[name]
    assert component.raw is not None
    return 0.0 - component.raw if component.higher_is_better else component.raw


def _why(row: _Row, name: str) -> str:
    component = row.components.get(name)
    return f"{name} was not measured" if component is None else f"{name} failed: {component.reason}"


def _priors(rows: Sequence[_Row], domains: Sequence[str], given: Mapping[str, float] | None) -> dict[str, Any] | None:
    """Sizes of the domains as olmix reads them; None where none is known. Raises DataError where one is missing or two differ."""
    sizes = dict(given or {})
    for vector in (vector for row in rows for vector in row.vectors if given is None):
        if vector.mixture is not None and vector.mixture.sizes is not None:
            for domain, size in zip(vector.mixture.domains, vector.mixture.sizes, strict=True):
                if sizes.setdefault(domain, size) != size:
                    raise DataError(
                        f"domain {domain!r} has size {size:g} in one mixture and {sizes[domain]:g} in another; "
                        "give the sizes that olmix is to take: --sizes FILE"
                    )
    if not sizes:
        return None
    if missing := [domain for domain in domains if domain not in sizes]:
        raise DataError(
            f"no size for domain {', '.join(missing)}, and olmix needs one for each; name it in --sizes FILE"
        )
    total = sum(sizes[domain] for domain in domains)
    priors: dict[str, Any] = {"relative_sizes": {domain: sizes[domain] / total for domain in domains}}
    if all(float(sizes[domain]).is_integer() for domain in domains):
        priors |= {"total_tokens": int(total), "token_counts": {domain: int(sizes[domain]) for domain in domains}}
    return priors


def _write(folder: Path, files: Mapping[str, list[dict[str, Any]]]) -> list[Path]:
    """Files of errors only where an error is known."""
    import pandas as pd

    written = []
    for name, rows in files.items():
        frame = pd.DataFrame(rows)
        if name.endswith("_stderr.csv") and frame.iloc[:, 1:].isna().all(axis=None):
            continue
        path = folder / name
        write_atomically(path, frame.to_csv(index=False).encode())
        written.append(path)
    return written


def read_sizes(path: Path) -> dict[str, float]:
    """Sizes of domains from a JSON file: `{"code": 3000000, "prose": 9000000}`. Raises DataError."""
    try:
        value = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read sizes {path}: {why_unreadable(error)}") from error
    if not isinstance(value, dict) or not value:
        raise DataError(f'{path}: expected the tokens of each domain, such as {{"code": 3000000}}')
    for domain, size in value.items():
        if isinstance(size, bool) or not isinstance(size, int | float) or not 0 < size < float("inf"):
            raise DataError(f"{path}: the size of {domain!r} is {size!r}; it must be a positive number")
    return value
