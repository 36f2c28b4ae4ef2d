"""The feed: reward vectors in, typed, as a learner's array or as a frame. Reading never needs a model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

from harness.core.errors import DataError
from harness.core.vector import ComponentRecord, RewardVector
from harness.feed.lines import FEED_FILE, read_vectors
from harness.feed.missing import Missing, fill
from harness.reward_models.reference import Reference, definitions_of, label
from harness.reward_models.statistics import Spread, believable, spread
from harness.reward_models.vector import standardize

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd


ERROR_COLUMNS = (
    *("n_clusters", "change", "change_stderr", "change_df", "n_paired"),
    *("best_step", "loss", "loss_bound", "alarm"),
)
"""Of a component, with `to_pandas(errors=True)`; besides `low` and `high` of its interval."""
VECTOR_ERROR_COLUMNS = ("scalar_stderr", "gain_stderr", "gain_df", "gain_standardized", "previous_step")
COMPONENT_COLUMNS = ("stderr", "standardized", "shrunk", "reliability", "status", "n_items", "n_scored")


Errors = Literal["paired", "items"]


class MatrixWithErrors(NamedTuple):
    """The learner's array and its standard errors, both of shape [T, N + |D|]."""

    values: npt.NDArray[np.float64]
    errors: npt.NDArray[np.float64]


class Feed(Sequence[RewardVector]):
    """Reward vectors in feed order."""

    def __init__(self, vectors: Sequence[RewardVector]) -> None:
        self.vectors = tuple(vectors)
        self._of_trajectory: dict[str, list[RewardVector]] = {}
        for vector in self.vectors:
            self._of_trajectory.setdefault(vector.trajectory, []).append(vector)

    @overload
    def __getitem__(self, index: int) -> RewardVector: ...
    @overload
    def __getitem__(self, index: slice) -> Feed: ...
    def __getitem__(self, index: int | slice) -> RewardVector | Feed:
        return Feed(self.vectors[index]) if isinstance(index, slice) else self.vectors[index]

    def __len__(self) -> int:
        return len(self.vectors)

    def __iter__(self) -> Iterator[RewardVector]:
        return iter(self.vectors)

    @property
    def trajectories(self) -> list[str]:
        """Names in order of first appearance."""
        return list(self._of_trajectory)

    def trajectory(self, name: str) -> Feed:
        """The vectors of one trajectory, by step. Raises DataError for an unknown name."""
        if name not in self._of_trajectory:
            raise DataError(f"no trajectory {name!r} in the feed; it has {', '.join(self.trajectories) or 'none'}")
        return Feed(sorted(self._of_trajectory[name], key=lambda vector: vector.place.order))

    def latest(self) -> Feed:
        """Without what was measured again: of every step of a trajectory, the vector written last, in feed order."""
        last = {vector.place: index for index, vector in enumerate(self.vectors)}
        return Feed([self.vectors[index] for index in sorted(last.values())])

    @property
    def components(self) -> list[str]:
        """Component names, in the order of the first vector."""
        return [component.name for component in self.vectors[0].components] if self.vectors else []

    @property
    def domains(self) -> list[str]:
        """Mixture domains, in order of first appearance over all vectors."""
        return list(dict.fromkeys(name for vector in self.vectors if vector.mixture for name in vector.mixture.domains))

    @overload
    def matrix(
        self, reference: Reference | None = None, *, errors: None = None, missing: Missing = "mean"
    ) -> npt.NDArray[np.float64]: ...
    @overload
    def matrix(
        self, reference: Reference | None = None, *, errors: Errors, missing: Missing = "mean"
    ) -> MatrixWithErrors: ...
    def matrix(
        self, reference: Reference | None = None, *, errors: Errors | None = None, missing: Missing = "mean"
    ) -> npt.NDArray[np.float64] | MatrixWithErrors:
        """The learner's array [rho ; standardised], shape [T, N + |D|], float64, one row per vector in feed order.

        N domains (normalised to sum 1) come first, in the order of `domains`, then the components in the order of
        `components`. With `reference` the raw values are standardised by it; otherwise a frozen feed's own values are
        used, and a running feed is standardised per trajectory over all of its steps, as in Algorithm 2.

        What is missing never becomes NaN unasked. A component that failed, does not vary or was measured once (a running
        trajectory's first step) is 0, the mean of z; a mixture that was not given is refused, but at a step 0, which was
        trained on nothing yet: its shares are 0. `missing="refuse"` refuses all of it by name, "nan" leaves NaN.

        With `errors` also the values' standard errors, of the same shape (0 for a mixture that was given): "paired" between
        the rows of a trajectory, whose items are common (change_stderr / sqrt 2, in the unit of z; not known at its first step),
        or "items" for another sample of items (stderr). An error that is not known is 1, the spread of z. For learning from
        changes between steps "paired" is the right one.
        Raises DataError when the vectors cannot be compared (other components, other content, or other references), or
        are not standardised at all (mode none).
        """
        import numpy as np

        if not self.vectors:
            nothing = np.empty((0, 0), dtype=np.float64)
            return nothing if errors is None else MatrixWithErrors(nothing, nothing)
        _check_comparable(self.vectors, reference)
        domains, names = self.domains, self.components
        spreads = self._spreads(reference)
        z = self._standardized(names, spreads)
        rows = []
        for vector, values in zip(self.vectors, z, strict=True):
            rho = vector.mixture.normalized() if vector.mixture else None
            row: list[float | None] = [None if rho is None else rho.get(domain, 0.0) for domain in domains]
            rows.append([*row, *values])
        array = np.array([[np.nan if x is None else x for x in row] for row in rows], dtype=np.float64)
        if errors is None:
            fill(array, None, self.vectors, domains, names, missing=missing)
            return array
        deviations = np.zeros_like(array)
        deviations[:, len(domains) :] = [
            [_error_of(by_name[name], spread.get(name), errors) for name in names]
            for by_name, spread in (
                (
                    {c.name: c for c in vector.components},
                    _recorded(vector) if spreads is None else spreads[vector.trajectory],
                )
                for vector in self.vectors
            )
        ]
        deviations[np.isnan(array)] = np.nan
        fill(array, deviations, self.vectors, domains, names, missing=missing)
        return MatrixWithErrors(array, deviations)

    def _spreads(self, reference: Reference | None) -> dict[str, dict[str, Spread]] | None:
        """Trajectory -> component -> mean and standard deviation that standardise it; None for a frozen feed, whose vectors have them."""
        if reference is None and self.vectors[0].reference.mode == "frozen":
            return None
        if reference is not None:
            frozen = {c.name: Spread(c.mean, c.std) for c in reference.components}
            return dict.fromkeys(self.trajectories, frozen)
        return {name: self.trajectory(name).latest().spreads() for name in self.trajectories}

    def _standardized(
        self, names: Sequence[str], spreads: dict[str, dict[str, Spread]] | None
    ) -> list[list[float | None]]:
        by_name = [{component.name: component for component in vector.components} for vector in self.vectors]
        if spreads is None:
            return [[components[name].standardized for name in names] for components in by_name]
        return [
            [
                standardize(
                    components[name].raw,
                    spreads[vector.trajectory].get(name),
                    higher_is_better=components[name].higher_is_better,
                )
                for name in names
            ]
            for vector, components in zip(self.vectors, by_name, strict=True)
        ]

    def spreads(self) -> dict[str, Spread]:
        """Mean and standard deviation (ddof 0) of each component's raw values, where there are any."""
        measured: dict[str, list[float]] = {}
        for vector in self.vectors:
            for component in vector.components:
                if component.raw is not None:
                    measured.setdefault(component.name, []).append(component.raw)
        return {name: spread(values) for name, values in measured.items()}

    def to_pandas(self, *, errors: bool = False) -> pd.DataFrame:
        """One row per vector: run, trajectory, step, status, checkpoint (path), fingerprint, scalar, gain, reference (id),
        `variables.<name>` of what the spec varies, `mixture.<domain>` as the trainer gave it, `rho.<domain>` (shares, with the
        sizes applied), and per component `<name>` (raw), `<name>.stderr` and the rest of COMPONENT_COLUMNS, and its numeric details.
        With `errors` also VECTOR_ERROR_COLUMNS, and per component ERROR_COLUMNS and its interval's `low` and `high`.

        Raises DataError where a component's name clashes with another column.
        """
        import pandas as pd

        rows = []
        owners: dict[str, str] = {}
        for vector in self.vectors:
            cells: list[tuple[str, Any]] = [
                ("run", vector.run),
                ("trajectory", vector.trajectory),
                ("step", vector.step),
                ("status", vector.status),
                ("checkpoint", vector.checkpoint.path),
                ("fingerprint", vector.checkpoint.fingerprint),
                ("scalar", vector.scalar),
                ("gain", vector.gain),
                ("reference", vector.reference.id),
            ]
            if errors:
                cells += [(key, getattr(vector, key)) for key in VECTOR_ERROR_COLUMNS]
            cells += [(f"variables.{name}", value) for name, value in vector.variables.items()]
            if vector.mixture:
                weights = zip(vector.mixture.domains, vector.mixture.weights, strict=True)
                cells += [(f"mixture.{domain}", weight) for domain, weight in weights]
                cells += [(f"rho.{domain}", share) for domain, share in vector.mixture.normalized().items()]
            whose = [""] * len(cells)
            for component in vector.components:
                name = component.name
                cells.append((name, component.raw))
                cells += [(f"{name}.{key}", getattr(component, key)) for key in COMPONENT_COLUMNS]
                if errors:
                    cells += [(f"{name}.{key}", getattr(component, key)) for key in ERROR_COLUMNS]
                    limits = component.interval or (None, None)
                    cells += [(f"{name}.low", limits[0]), (f"{name}.high", limits[1])]
                cells += [(f"{name}.{k}", v) for k, v in component.detail.items() if isinstance(v, int | float)]
                whose += [name] * (len(cells) - len(whose))
            row = dict(cells)
            columns = [column for column, _ in cells]
            twice = next((column for column, n in Counter(columns).items() if n > 1), None)
            for column, owner in zip(columns, whose, strict=True):
                if owners.setdefault(column, owner) != owner:  # of another row
                    twice = twice or column
            if twice is not None:
                raise DataError(f"a table cannot have two columns {twice!r}; rename the component in the spec")
            rows.append(row)
        frame = pd.DataFrame(rows)
        return frame.astype({"step": "Int64"}) if rows else frame


def _recorded(vector: RewardVector) -> dict[str, Spread]:
    """The mean and standard deviation of each component that are recorded in a vector."""
    record = zip(vector.components, vector.reference.mean, vector.reference.std, strict=True)
    return {c.name: Spread(mean, std) for c, mean, std in record if mean is not None and std is not None}


def _error_of(component: ComponentRecord, known: Spread | None, errors: Errors) -> float:
    """A standard error in the unit of z; NaN where it is not known."""
    error = component.change_stderr
    if errors == "items":
        error = believable(component.raw, component.stderr, component.n_scored)
    if error is None or known is None or known.std <= 0:
        return math.nan
    return error / known.std / (1.0 if errors == "items" else math.sqrt(2))


def _check_comparable(vectors: Sequence[RewardVector], reference: Reference | None) -> None:
    first = vectors[0]
    names = {component.name for component in first.components}
    for vector in vectors[1:]:
        here = {component.name for component in vector.components}
        if here != names:
            raise DataError(
                f"{label(vector)} has components {', '.join(sorted(here))}, {label(first)} has {', '.join(sorted(names))}"
            )
        if definitions_of(vector) != definitions_of(first):
            raise DataError(
                f"{label(vector)} and {label(first)} measured other field content or revisions; not comparable"
            )
        if reference is None and (vector.reference.mode, vector.reference.id) != (
            first.reference.mode,
            first.reference.id,
        ):
            raise DataError(
                f"{label(vector)} and {label(first)} are standardised by different references "
                f"({vector.reference.id or vector.reference.mode}, {first.reference.id or first.reference.mode}); pass one to matrix(reference)"
            )
    if reference is None and first.reference.mode == "none":
        raise DataError("the feed is not standardised (standardize: none); pass a reference to matrix(reference)")
    if reference is not None:
        for name, definition in definitions_of(first).items():
            fitted = reference.component(name)
            if fitted is None or (
                fitted.definition is not None and definition is not None and fitted.definition != definition
            ):
                raise DataError(f"the reference was not fitted on component {name!r} as measured here; fit it again")


def read_feed(path: str | Path) -> Feed:
    """Read `rewards.jsonl`, or the folder that holds one. A line still being written is ignored.

    Raises DataError naming the line for anything that is not a valid vector of this version.
    """
    path = Path(path)
    if path.is_dir():
        path = path / FEED_FILE
    if not path.exists():
        raise DataError(f"no feed at {path}; `harness score` writes one")
    return Feed(read_vectors(path))
