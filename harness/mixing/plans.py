"""Plans of trajectories as a file: what `mix sample` writes and `mix collect` reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict, Field, ValidationError

from harness.core.errors import DataError, why_unreadable
from harness.core.measurement import Record, describe
from harness.mixing.domains import Domains
from harness.mixing.sample import SCHEMA, Planned


class _Trajectory(Record):
    """`rho`: [steps + 1, N]."""

    model_config = ConfigDict(strict=True)
    name: str = Field(min_length=1)
    k: int = Field(ge=1)
    rho: list[list[float]] = Field(min_length=2)


class _Plan(Record):
    schema_: str = Field(alias="schema")
    domains: Domains
    names: list[str]
    trajectories: list[_Trajectory] = Field(min_length=1)


def plan_json(space: Domains, planned: Sequence[Planned]) -> str:
    """One JSON document: the space, and each trajectory's mixtures."""
    value: dict[str, Any] = {
        "schema": SCHEMA,
        "domains": space.model_dump(exclude_defaults=True),
        "names": space.names,
        "trajectories": [{"name": one.name, "k": one.k, "rho": one.rho.round(6).tolist()} for one in planned],
    }
    return json.dumps(value)


def read_plans(path: Path) -> tuple[Domains, list[Planned]]:
    """The space and its trajectories, shares normalised to sum 1. Raises DataError, naming what is wrong."""
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {why_unreadable(error)}") from error
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise DataError(f"{path} is no plan of this version ({SCHEMA}); `harness mix sample` writes one")
    try:
        plan = _Plan.model_validate(value)
    except ValidationError as error:
        raise DataError(f"{path}: {describe(error, _Plan)}") from error
    space = plan.domains
    if plan.names != space.names:
        raise DataError(
            f"{path}: names has {', '.join(plan.names)}, which the columns of rho are of, and the domains are "
            f"{', '.join(space.names)}; sample anew"
        )
    planned: dict[str, Planned] = {}
    for one in plan.trajectories:
        where = f"{path}: trajectory {one.name}"
        if one.name in planned:
            raise DataError(f"{where} is there twice")
        off = next((step for step, row in enumerate(one.rho) if len(row) != len(space.names)), None)
        if off is not None:
            raise DataError(
                f"{where} has {len(one.rho[off])} shares at step {off}; there are {len(space.names)} domains"
            )
        rho = np.array(one.rho)
        sums = rho.sum(1)
        if (rho < 0).any() or (abs(sums - 1) > 1e-3).any():
            raise DataError(f"{where} has shares that are negative, or do not sum to 1")
        planned[one.name] = Planned(name=one.name, k=one.k, rho=rho / sums[:, None])
    return space, list(planned.values())
