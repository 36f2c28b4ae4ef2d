"""The space of mixtures: named source and target domains, the state that a training starts from and the one it is to end at."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, model_validator

from harness.core.errors import DataError, why_unreadable
from harness.core.measurement import Record, describe

Floats = npt.NDArray[np.float64]
FLOOR = 0.02
"""Scale of the logarithm of shares, log1p(share / FLOOR) / log1p(1 / FLOOR): far below it a share counts as almost 0."""


class Domains(Record):
    """N domains, the sources first. `sizes`: of their data, in any one unit (tokens); they are used only if a group has all of them.

    `start` is the state of the base model's own data: by default the sources by size (else equal), and no target. `target` is the
    state that a training is to end at: the targets by size (else equal), and no source. Given shares need not sum to 1.
    """

    sources: list[str] = Field(min_length=1, description="domains that the base model knows")
    targets: list[str] = Field(min_length=1, description="domains that are to be learned")
    sizes: dict[str, float] = Field(default={}, description="domain -> size of its data, in one unit")
    start_shares: dict[str, float] = Field(default={}, description="domain -> share of the base model's data")
    target_shares: dict[str, float] = Field(default={}, description="domain -> share of the data to end at")

    @model_validator(mode="after")
    def _known(self) -> Self:
        names = [*self.sources, *self.targets]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"a domain is there twice: {twice!r}; one that is both source and target takes two names")
        if not all(name.strip() for name in names):
            raise ValueError("a domain has no name")
        for key in ("sizes", "start_shares", "target_shares"):
            given: dict[str, float] = getattr(self, key)
            unknown = next((name for name in given if name not in names), None)
            if unknown is not None:
                raise ValueError(f"{key} names {unknown!r}, which is no domain")
            if any(value < 0 for value in given.values()) or (given and not 0 < sum(given.values()) < math.inf):
                raise ValueError(f"{key} must not be negative, nor all 0, nor sum to more than a number holds")
        return self

    @classmethod
    def of_classes(
        cls, classes: Sequence[str], *, source_sizes: Mapping[str, float], target_sizes: Mapping[str, float]
    ) -> Self:
        """Classes x {source, target}, as the paper's 26 x 2: `science/source`, ..., `science/target`, ... Raises DataError."""
        unknown = next((name for name in (*source_sizes, *target_sizes) if name not in classes), None)
        if unknown is not None:
            raise DataError(f"sizes name {unknown!r}, which is none of the classes {', '.join(classes)}")
        sizes = {f"{name}/source": float(source_sizes.get(name, 0.0)) for name in classes}
        sizes |= {f"{name}/target": float(target_sizes.get(name, 0.0)) for name in classes}
        return cls(
            sources=[f"{name}/source" for name in classes], targets=[f"{name}/target" for name in classes], sizes=sizes
        )

    @property
    def names(self) -> list[str]:
        """All N, the sources first."""
        return [*self.sources, *self.targets]

    @property
    def start(self) -> Floats:
        """Shape [N], sums to 1."""
        return self._state(self.start_shares, self.sources)

    @property
    def target(self) -> Floats:
        """Shape [N], sums to 1."""
        return self._state(self.target_shares, self.targets)

    def multiplied(self, multipliers: Mapping[str, float]) -> Floats:
        """rho for multipliers w_d of data set sizes (Agent Data Protocol): rho_d = w_d size_d / sum.

        Raises DataError without sizes.
        """
        missing = [name for name in self.names if name not in self.sizes]
        if missing:
            raise DataError(f"multipliers need the size of every domain; {', '.join(missing[:5])} have none")
        unknown = [name for name in multipliers if name not in self.sizes]
        if unknown:
            raise DataError(f"multipliers name {unknown[0]!r}, which is no domain")
        negative = [name for name, value in multipliers.items() if value < 0]
        if negative:
            raise DataError(f"the multiplier of {negative[0]} is {multipliers[negative[0]]:g}; none may be negative")
        return _normalised(
            np.array([multipliers.get(name, 0.0) * self.sizes[name] for name in self.names]), "the multipliers"
        )

    def collapse(self, rho: npt.ArrayLike) -> Floats:
        """[..., N] to [..., 2]: the shares of all sources and of all targets. Raises DataError for another shape."""
        shares = np.asarray(rho, dtype=np.float64)
        if shares.shape[-1:] != (len(self.names),):
            raise DataError(f"mixtures of shape {list(shares.shape)}, for {len(self.names)} domains")
        n = len(self.sources)
        return np.stack([shares[..., :n].sum(-1), shares[..., n:].sum(-1)], axis=-1)

    def mixture(self, rho: npt.ArrayLike) -> dict[str, float]:
        """Shares by name, as mixture.json and a feed take them."""
        return dict(zip(self.names, np.asarray(rho, dtype=np.float64).tolist(), strict=True))

    def in_order(self, values: Mapping[str, str], *, what: str) -> dict[str, str]:
        """The values in the order of the domains. Raises DataError where one is missing, or is of no domain."""
        if set(values) != set(self.names):
            off = [
                *(name for name in self.names if name not in values),
                *(name for name in values if name not in self.names),
            ]
            raise DataError(
                f"{what} names {', '.join(values)}; the domains are {', '.join(self.names)}: look at {off[0]!r}"
            )
        return {name: values[name] for name in self.names}

    def _state(self, shares: Mapping[str, float], group: Sequence[str]) -> Floats:
        if shares:
            return _normalised(np.array([shares.get(name, 0.0) for name in self.names]), "the shares")
        sized = all(name in self.sizes for name in group) and math.fsum(self.sizes[name] for name in group) > 0
        values = [(self.sizes[name] if sized else 1.0) if name in set(group) else 0.0 for name in self.names]
        return _normalised(np.array(values), "the sizes")


def _normalised(values: Floats, what: str) -> Floats:
    total = math.fsum(values.tolist())
    if not total > 0 or not math.isfinite(total):
        raise DataError(f"{what} sum to {total:g}; at least one has to be above 0, and all finite")
    found: Floats = values / total
    return found


def read_domains(path: Path) -> Domains:
    """A space from a JSON file. Raises DataError."""
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {why_unreadable(error)}") from error
    try:
        return Domains.model_validate(value)
    except ValidationError as error:
        raise DataError(f"{path}: {describe(error, Domains)}") from error
