"""Plans of trajectories as a file: what `mix sample` writes and `mix collect` reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from harness.core.errors import DataError
from harness.core.measurement import describe
from harness.mixing.domains import Domains
from harness.mixing.sample import SCHEMA, Planned


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
    """The space and its trajectories, shares that sum to 1 again. Raises DataError, naming what is wrong."""
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise DataError(f"{path} is no plan of this version ({SCHEMA}); `harness mix sample` writes one")
    planned = []
    try:
        space = Domains.model_validate(value["domains"])
        for one in value["trajectories"]:
            rho = np.asarray(one["rho"], dtype=np.float64)
            where = f"{path}: trajectory {one['name']}"
            if rho.ndim != 2 or rho.shape[1] != len(space.names) or len(rho) < 2:
                raise DataError(f"{where} has shape {list(rho.shape)}; it takes [steps + 1, {len(space.names)}]")
            sums = rho.sum(1)
            if not np.isfinite(rho).all() or (rho < 0).any() or (abs(sums - 1) > 1e-3).any():
                raise DataError(f"{where} has shares that are negative, or do not sum to 1")
            planned.append(Planned(name=str(one["name"]), k=int(one["k"]), rho=rho / sums[:, None]))
    except ValidationError as error:
        raise DataError(f"{path}: {describe(error, Domains)}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: {type(error).__name__}: {error}") from error
    return space, planned
