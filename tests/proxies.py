"""A small problem to train proxies on: token files of three domains, a base, fields, a plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tiny

from harness.mixing.domains import Domains
from harness.mixing.plans import plan_json
from harness.mixing.sample import sample_trajectories
from harness.mixing.trainer import Recipe, TokenTrainer

SPACE = Domains(sources=["web"], targets=["code", "noise"])


def problem(folder: Path, *, steps: int = 3, number: int = 3) -> dict[str, Any]:
    """Everything `harness mix collect` is given, as paths."""
    rng = np.random.default_rng(0)
    files = {}
    for place, name in enumerate(SPACE.names):
        np.save(folder / f"{name}.npy", (rng.integers(0, 40, 900) + 50 * place).astype(np.uint16))
        files[name] = f"{name}.npy"
    (folder / "tokens.json").write_text(json.dumps(files))
    tiny.save(folder / "base")
    rows = [{"q": f"def f{i}(x):\n", "r": f"    return x + {i}\n"} for i in range(6)]
    for name in ("a", "b"):
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows[: 4 if name == "a" else 6])
        )
    components = "".join(f"  - {{name: {name}, kind: logprob, field: {name}.jsonl}}\n" for name in ("a", "b"))
    (folder / "spec.yaml").write_text(f"components:\n{components}")
    planned = sample_trajectories(SPACE, steps=steps, number=number, k=(1, 10), candidates=100)
    (folder / "plans.json").write_text(plan_json(SPACE, planned))
    return {name: folder / name for name in ("tokens.json", "base", "spec.yaml", "plans.json")}


def command(folder: Path, out: Path, **more: Any) -> list[str]:
    """The arguments of `harness mix collect` for it."""
    given = {"rows": 2, "updates": 2, "length": 16, **more}
    fixed = ["--tokens", folder / "tokens.json", "--base", folder / "base", "--spec", folder / "spec.yaml", "-o", out]
    options = [str(part) for key, value in given.items() for part in (f"--{key}", value)]
    return ["mix", "collect", str(folder / "plans.json"), *map(str, fixed), *options]


def trainer(folder: Path, **changes: Any) -> TokenTrainer:
    files = {name: str(folder / f"{name}.npy") for name in SPACE.names}
    return TokenTrainer(Recipe(tokens=files, bases=[str(folder / "base")], length=16, rows=2, updates=2, **changes))
