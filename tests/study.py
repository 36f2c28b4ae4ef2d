"""The simulated study of examples/, whose truth is known, for tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np

SCRIPT = Path(__file__).parents[1] / "examples" / "simulated_study.py"


def script() -> ModuleType:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("simulated_study", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_study(folder: Path, *, mixtures: int = 12, seed: int = 0) -> tuple[Path, Path]:
    """Feeds of proxies (two runs a mixture) and of targets (one or two)."""
    made = script()
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet([1.0] * 3, size=mixtures)
    made.study(folder / "proxies", made.PROXIES, shares, [2] * mixtures, rng)
    made.study(folder / "targets", made.TARGETS, shares, [1 + (m < 4) for m in range(mixtures)], rng)
    return folder / "proxies", folder / "targets"
