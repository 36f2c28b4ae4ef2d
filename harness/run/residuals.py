"""Residuals of long trajectories on disk, so that a resumed run need not read the items of every step again.

A file is a cache: it is used if it was made from the vectors that are in the feed; otherwise the residual is computed from the items.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.core.digest import digest_json
from harness.core.journal import write_atomically
from harness.core.measurement import Measurement
from harness.reward_models.residual import Residual

NOTHING = digest_json([])
"""The chain before the first step."""


class Kept(NamedTuple):
    """A residual over the first `n` vectors of a trajectory, with the chain of what they are."""

    n: int
    chain: str
    residual: Residual | None


def linked(chain: str, *, step: int | None, fingerprint: str | None, measurement: Measurement) -> str:
    """The chain with one more vector: its step, its weights and its score."""
    return digest_json([chain, step, fingerprint, measurement.raw, measurement.n_scored])


class KeptResiduals:
    """`residuals/` in a run folder: a file per component of a trajectory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "residuals"

    def read(self, trajectory: str, name: str) -> Kept | None:
        """What was stored; None where there is nothing, or it cannot be read."""
        try:
            with np.load(self._path(trajectory, name), allow_pickle=False) as arrays:
                about = json.loads(str(arrays["about"]))
                found = Residual(
                    keys=tuple((stratum, cluster) for stratum, cluster in about["keys"]),
                    n=arrays["n"],
                    mean=arrays["mean"],
                    squares=arrays["squares"],
                    floor=about["floor"],
                )
                return Kept(about["n"], about["chain"], found)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return None

    def write(self, trajectory: str, name: str, kept: Kept) -> None:
        """Store a residual, replacing an earlier one. Raises StateError."""
        if kept.residual is None:
            return
        about = {"n": kept.n, "chain": kept.chain, "floor": kept.residual.floor, "keys": kept.residual.keys}
        buffer = io.BytesIO()
        arrays = {"n": kept.residual.n, "mean": kept.residual.mean, "squares": kept.residual.squares}
        np.savez(buffer, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]
        write_atomically(self._path(trajectory, name), buffer.getvalue())

    def forget(self, trajectory: str, name: str) -> None:
        """Delete one; nothing happens where there is none."""
        self._path(trajectory, name).unlink(missing_ok=True)

    def _path(self, trajectory: str, name: str) -> Path:
        return self._folder / f"{digest_json([trajectory, name]).removeprefix('sha256:')[:16]}.npz"
