"""Missing values of a learner's array: which are filled, with what, and which are refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from harness.core.errors import DataError
from harness.core.vector import RewardVector
from harness.reward_models.reference import label

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Missing = Literal["mean", "refuse", "nan"]
UNKNOWN_ERROR = 1.0
"""The error assumed for a value without one, in the unit of z: the reference's whole spread."""


def fill(
    values: npt.NDArray[np.float64],
    errors: npt.NDArray[np.float64] | None,
    vectors: Sequence[RewardVector],
    domains: Sequence[str],
    names: Sequence[str],
    *,
    missing: Missing,
) -> None:
    """In place. `values` and `errors`: shape [T, N + |D|], NaN where nothing is known.

    "mean": a missing value of a component becomes 0, the mean of z, and a missing error 1, the spread of z. Shares are 0 at a
    step 0 without a mixture, which was trained on nothing yet; elsewhere a missing mixture is refused, because there is no
    neutral value for it. "refuse": anything missing is refused. "nan": nothing is filled. Raises DataError.
    """
    import numpy as np

    if missing not in ("mean", "refuse", "nan"):
        raise DataError(f"missing is {missing!r}; it is one of 'mean', 'refuse' and 'nan'")
    if missing == "nan":
        return
    n = len(domains)
    columns = [*domains, *names]
    for row, column in np.argwhere(np.isnan(values)).tolist():
        vector = vectors[row]
        if column < n and not (missing == "mean" and vector.step == 0):
            raise DataError(
                f"{label(vector)} has no mixture, and others have one; give it in mixture.json or feedback(mixture=), "
                'or take matrix(missing="nan")'
            )
        if missing == "refuse":
            raise DataError(
                f"{label(vector)}: {columns[column]} has no standardised value; {_why(vector, columns[column])}"
            )
        values[row, column] = 0.0
        if errors is not None:
            errors[row, column] = 0.0 if column < n else UNKNOWN_ERROR
    if errors is None:
        return
    for row, column in np.argwhere(np.isnan(errors)).tolist():
        if missing == "refuse":
            raise DataError(f"{label(vectors[row])}: {columns[column]} has no error of this kind")
        errors[row, column] = UNKNOWN_ERROR


def _why(vector: RewardVector, name: str) -> str:
    component = next(component for component in vector.components if component.name == name)
    if component.raw is None:
        return f"it was not measured: {component.reason}"
    return "it does not vary, or was measured once; pass a reference to matrix(reference)"
