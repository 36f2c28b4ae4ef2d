"""A small problem to train proxies on: token files of three domains, a base, fields, a plan."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
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


def lines(out: Path) -> list[str]:
    """The feed, byte for byte but for the clock."""
    found = []
    for line in (out / "rewards.jsonl").read_text().splitlines():
        value = json.loads(line)
        for key in ("started", "seconds"):
            del value["provenance"][key]
        found.append(json.dumps(value))
    return found


def along(folder: Path, policy: Any, *, names: tuple[str, ...] = ("a", "b"), steps: int = 4) -> dict[str, Any]:
    """What `collect` is given for trajectories of one policy."""
    from harness.mixing.steer import Trajectory
    from harness.spec.spec import load_spec

    recipe = Recipe(
        tokens={name: str(folder / f"{name}.npy") for name in SPACE.names}, bases=[str(folder / "base")], length=16, rows=2, updates=2
    )  # fmt: skip
    trajectories = [Trajectory(name=name, policy=policy, steps=steps, seed=i) for i, name in enumerate(names)]
    return {"trajectories": trajectories, "recipe": recipe, "spec": load_spec(folder / "spec.yaml")}


@dataclass(frozen=True)
class Deadly:
    """Ends its process: once before each step where `always` is None, else every time at that step."""

    marks: Path | None
    always: int | None = None

    def next(self, matrix: Any) -> Any:
        """Uniform, where it lives."""
        if self.marks is not None:
            mark = self.marks / str(len(matrix))
            if len(matrix) == self.always or (self.always is None and not mark.exists()):
                mark.touch()
                os._exit(7)
        return np.full(len(SPACE.names), 1 / len(SPACE.names))


@dataclass(frozen=True)
class Kept:
    """Keeps which steps it was asked for, a line each, and can only go forward."""

    log: Path

    def next(self, matrix: Any) -> Any:
        """Uniform."""
        with self.log.open("a") as file:
            file.write(f"{len(matrix)}\n")
        return np.full(len(SPACE.names), 1 / len(SPACE.names))


def trainer(folder: Path, **changes: Any) -> TokenTrainer:
    files = {name: str(folder / f"{name}.npy") for name in SPACE.names}
    return TokenTrainer(Recipe(tokens=files, bases=[str(folder / "base")], length=16, rows=2, updates=2, **changes))
